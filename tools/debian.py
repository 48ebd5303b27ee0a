# SPDX-License-Identifier: Apache-2.0
"""Installs what a tool needs of Debian's packages, only where nobody is surprised by that."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable


def see_to_it(look: Callable[[], object], *packages: str) -> int:
    """Look for something, and install it if we may: as root, on Debian and its relatives.

    :param look: raises a ``RuntimeError`` that says what to do, if it is not there.
    :param packages: what brings it.
    :return: exit status: 0 if it is there now.
    """
    try:
        look()
    except RuntimeError as error:
        apt = shutil.which("apt-get")
        if apt is None or os.geteuid() != 0:
            print(error, file=sys.stderr)
            return 1
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ["install", "--yes", "--quiet", "--no-install-recommends", *packages]
        for words in (["update", "--quiet"], install):
            if status := subprocess.run([apt, *words], env=environment, check=False).returncode:
                print(error, file=sys.stderr)
                return status
    return 0
