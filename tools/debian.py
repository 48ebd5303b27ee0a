# SPDX-License-Identifier: Apache-2.0
"""Installs Debian packages, where the current user may do so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable


def ensure(find: Callable[[], object], *packages: str) -> int:
    """Find a program, or install it: as root, on Debian and its derivatives.

    :param find: raises a ``RuntimeError`` that says how to install the program, if it is missing.
    :param packages: packages to install.
    :return: exit status: 0 if the program is there now.
    """
    try:
        find()
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
