# SPDX-License-Identifier: Apache-2.0
"""Installs PostgreSQL's server, which the proof needs, unless it is there.

PYTHONPATH=demo python tools/postgres.py
"""

from __future__ import annotations

import sys

from bgrep_demo.postgres import binaries
from debian import ensure

if __name__ == "__main__":
    sys.exit(ensure(binaries, "postgresql"))
