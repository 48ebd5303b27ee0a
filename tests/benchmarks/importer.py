# SPDX-License-Identifier: Apache-2.0
"""Import the base of every DAG file, then more modules, and say what the latter cost.

Started by ``imports.py`` in a fresh interpreter with the modules' names. What an import does besides
is seen by an audit hook: every connection made and every name looked up.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any

AUDITED = ("socket.connect", "socket.getaddrinfo", "socket.sendto", "sqlite3.connect", "subprocess.Popen")
HEAVY = ("requests", "aiohttp", "sqlalchemy", "pandas", "numpy", "PIL")


def main() -> None:
    """Measure."""
    seen: list[str] = []

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event in AUDITED:
            seen.append(f"{event} {args[1:]!r}"[:200])

    sys.addaudithook(audit)
    began = time.perf_counter(), time.process_time()
    from airflow.sdk import DAG, BaseOperator  # noqa: F401

    base = time.perf_counter(), time.process_time()
    loaded, seen_by_base = set(sys.modules), len(seen)
    for name in sys.argv[1:]:
        importlib.import_module(name)
    end = time.perf_counter(), time.process_time()
    added = sorted(set(sys.modules) - loaded)
    out = {
        "base_wall": base[0] - began[0],
        "base_cpu": base[1] - began[1],
        "wall": end[0] - base[0],
        "cpu": end[1] - base[1],
        "modules": len(added),
        "heavy": [name for name in HEAVY if name in added],
        "heavy_in_base": [name for name in HEAVY if name in loaded],
        "calls": seen[seen_by_base:],
    }
    print(json.dumps(out))


if __name__ == "__main__":
    main()
