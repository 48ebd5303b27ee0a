# SPDX-License-Identifier: Apache-2.0
"""See to it that a Chromium is on this machine; the tests look at galleries with it.

PYTHONPATH=demo python tools/browser.py
"""

from __future__ import annotations

import sys

from bgrep_demo.browser import chromium
from debian import see_to_it

if __name__ == "__main__":
    sys.exit(see_to_it(chromium, "chromium", "fonts-dejavu-core"))
