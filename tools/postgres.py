# SPDX-License-Identifier: Apache-2.0
"""See to it that PostgreSQL's server is on this machine; the proof's Airflow runs on it.

It is installed only where nobody is surprised by that: as root, on Debian and its relatives.

    PYTHONPATH=demo python tools/postgres.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from bgrep_demo.postgres import binaries


def main() -> int:
    """Look for it, and install it if we may.

    :return: exit status: 0 if it is there now.
    """
    try:
        binaries()
    except RuntimeError as error:
        apt = shutil.which("apt-get")
        if apt is None or os.geteuid() != 0:
            print(error, file=sys.stderr)
            return 1
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update", "--quiet"], ["install", "--yes", "--quiet", "postgresql"]):
            if status := subprocess.run([apt, *words], env=environment, check=False).returncode:
                print(error, file=sys.stderr)
                return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
