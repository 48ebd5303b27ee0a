# SPDX-License-Identifier: Apache-2.0
"""Imports what every DAG file imports, then further modules, and prints the cost of the latter.

``imports.py`` starts it in a new interpreter with the names of the modules. An audit hook records the side
effects of an import: connections, name resolution, subprocesses.
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
    """Measure and print one line of JSON."""
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
