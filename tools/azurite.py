# SPDX-License-Identifier: Apache-2.0
"""Installs Azurite, Microsoft's emulator of Azure Storage, with npm into this checkout, unless it is there.

python tools/azurite.py
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from debian import ensure

VERSION: Final = "3.35.0"
"""The last version that runs on Node.js 18 and 20; later ones need 21 or 22."""

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / ".azurite"

_MISSING: Final = (
    "Node.js was not found (node or npm is not on the PATH): install it, on Debian and Ubuntu with: apt-get "
    "install nodejs npm"
)


def npm() -> str:
    """Return the path of npm.

    :raises RuntimeError: if it is missing, or Node.js is; the message says how to install them.
    """
    found = shutil.which("npm")
    if found is None or shutil.which("node") is None:
        raise RuntimeError(_MISSING)
    return found


def installed_version() -> str:
    """Return the version of Azurite in this checkout; ``""`` if there is none."""
    try:
        data = (FOLDER / "node_modules" / "azurite" / "package.json").read_text(encoding="utf-8")
        return str(json.loads(data)["version"])
    except (OSError, ValueError, KeyError):  # not there, or not completely
        return ""


def install() -> int:
    """Install Azurite, unless this version is there.

    :return: exit status: 0 if it is there now.
    """
    if installed_version() == VERSION:
        return 0
    if status := ensure(npm, "nodejs", "npm"):
        return status
    shutil.rmtree(FOLDER, ignore_errors=True)
    # In a folder without a package.json of ours, so npm writes nothing but node_modules.
    words = [npm(), "install", "--prefix", str(FOLDER), "--no-save", "--no-package-lock", "--no-audit"]
    words += ["--no-fund", "--ignore-scripts", "--omit=dev", "--loglevel=error", f"azurite@{VERSION}"]
    FOLDER.mkdir(exist_ok=True)
    return subprocess.run(words, cwd=FOLDER, check=False).returncode


if __name__ == "__main__":
    sys.exit(install())
