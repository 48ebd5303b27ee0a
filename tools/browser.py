# SPDX-License-Identifier: Apache-2.0
"""See to it that a Chromium is on this machine; the tests look at galleries with it.

It is installed only where nobody is surprised by that: as root, on Debian and its relatives.

    PYTHONPATH=demo python tools/browser.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from bgrep_demo.browser import chromium


def main() -> int:
    """Look for it, and install it if we may.

    :return: exit status: 0 if it is there now.
    """
    try:
        chromium()
    except RuntimeError as error:
        apt = shutil.which("apt-get")
        if apt is None or os.geteuid() != 0:
            print(error, file=sys.stderr)
            return 1
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        without = ("--yes", "--quiet", "--no-install-recommends")
        for words in (["update", "--quiet"], ["install", *without, "chromium", "fonts-dejavu-core"]):
            if status := subprocess.run([apt, *words], env=environment, check=False).returncode:
                print(error, file=sys.stderr)
                return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
