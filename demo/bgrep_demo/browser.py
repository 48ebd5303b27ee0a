# SPDX-License-Identifier: Apache-2.0
"""Finds the Chromium of this machine, which the browser tests drive."""

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
    "--no-sandbox",  # root cannot have one, and it opens no pages but our own
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
"""Command-line options that keep it off the network."""


def chromium() -> Path:
    """Return the path of the browser.

    :raises RuntimeError: if there is none; the message says how to install it.
    """
    for name in _NAMES:
        if found := shutil.which(name):
            return Path(found)
    for place in map(Path, _PLACES):
        if place.exists():
            return place
    raise RuntimeError(MISSING)
