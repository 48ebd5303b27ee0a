# SPDX-License-Identifier: Apache-2.0
"""See to it that PostgreSQL's server is on this machine; the proof's Airflow runs on it.

PYTHONPATH=demo python tools/postgres.py
"""

from __future__ import annotations

import sys

from bgrep_demo.postgres import binaries
from debian import see_to_it

if __name__ == "__main__":
    sys.exit(see_to_it(binaries, "postgresql"))
