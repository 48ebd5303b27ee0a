# SPDX-License-Identifier: Apache-2.0
"""Installs Chromium, which the browser tests drive, unless it is there.

PYTHONPATH=demo python tools/browser.py
"""

from __future__ import annotations

import sys

from bgrep_demo.browser import chromium
from debian import ensure

if __name__ == "__main__":
    sys.exit(ensure(chromium, "chromium", "fonts-dejavu-core"))
