# SPDX-License-Identifier: Apache-2.0
"""The browser that galleries are looked at with: a Chromium of this machine's."""

from __future__ import annotations

import shutil
from pathlib import Path

MISSING = (
    "No Chromium was found (neither chromium nor google-chrome is on the PATH): install one, on Debian and "
    "Ubuntu with: apt-get install chromium"
)
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_PLACES = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)

FLAGS = (
    "--no-sandbox",  # root may not have one, and it only sees pages of our own
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
"""What it is started with: it stays by itself."""


def chromium() -> Path:
    """The browser's program.

    :raises RuntimeError: if there is none, with what to do about it.
    """
    for name in _NAMES:
        if found := shutil.which(name):
            return Path(found)
    for place in map(Path, _PLACES):
        if place.exists():
            return place
    raise RuntimeError(MISSING)
