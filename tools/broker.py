# SPDX-License-Identifier: Apache-2.0
"""Installs Redis, the broker of the fleet, unless it is there.

PYTHONPATH=demo python tools/broker.py
"""

from __future__ import annotations

import sys

from bgrep_demo.broker import binary
from debian import ensure

if __name__ == "__main__":
    sys.exit(ensure(binary, "redis-server"))
