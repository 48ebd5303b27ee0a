# SPDX-License-Identifier: Apache-2.0
"""Plans one run with one subject, in a process of its own. Started by ``catalog_runs.py``; prints JSON.

``make`` makes a catalog of which every row was submitted and published: a catalog, a ledger, a manifest.
"""

from __future__ import annotations

import csv
import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

COLUMNS = ("sku", "category", "name", "color", "image", "mask", "positive_prompt", "seed", "stock", "price")
PROMPT = "A {{ color }} {{ name }} on a marble table, soft studio light"
USED = ("sku", "image", "mask", "positive_prompt", "seed", "color", "name", "category")


def rows(count: int) -> Any:
    """The catalog's rows."""
    for i in range(count):
        urls = (f"https://shop.example.com/images/{i}.jpg", f"https://shop.example.com/masks/{i}.png")
        yield (f"SKU-{i:07}", f"c{i % 20}", f"enamel mug {i}", "red", *urls, "", "", i % 17, f"{i % 90}.99")


def make(home: Path, count: int) -> dict[str, float]:
    """Make the catalog: plan a first run, then record that all of it was generated and published.

    :return: what planning the first run cost.
    """
    with (home / "catalog.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows(count))
    wall, cpu = time.perf_counter(), time.process_time()
    plan = ours(home, run_id="first")
    first = {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    import duckdb

    from airflow_provider_bgrep.catalog.model.schema import ENTRY
    from airflow_provider_bgrep.catalog.state.ledger import Ledger
    from airflow_provider_bgrep.catalog.state.manifest import MANIFEST, Header, header_log

    paths = paths_of(home)
    todo = paths.plan(plan["plan_id"]).work_items.path
    file = (
        """'[{"index": 0, "output": 0, "path": "/shop/' || name || '.png", "size": 1000000, "sha256": "' """
        """|| request_hash || request_hash || '", "format": "PNG", "width": 1024, "height": 1024}]'"""
    )
    generated = {
        "outcome": "'generated'",
        "verdict": "'passed'",
        "thresholds": "'{}'",
        "files": file,
        "journal_key": "request_hash",
        "result_key": "request_hash",
        "nonce": "request_hash",
        "images": "1",
        "attempts": "0",
        "chosen": "0",
    }
    entry = ", ".join(f"{generated.get(one.name, one.name)} AS {one.name}" for one in ENTRY)
    live = {"status": "'live'", "path": "sku || '/main.png'", "versions": "[]", "rolled_back_from": "''"}
    known = {column.name for column in ENTRY}
    shown = ", ".join(
        f"{live.get(one.name, one.name if one.name in known else 'NULL')} AS {one.name}" for one in MANIFEST
    )
    header = Header(1, "0" * 8, "", "", "", "", {}, {}, {})
    folder = home / "images" / "manifests"
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as db:
        how = "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 10240"
        entries = db.sql(f"SELECT {entry} FROM read_parquet('{todo}')").to_arrow_reader(50_000)
        for number, batch in enumerate(entries):
            # As a run does it; a second commit of one plan would replace the first.
            Ledger(paths).commit(f"run-{number:04}", batch.to_pylist())
        target = folder / header.file("parquet")
        db.execute(f"COPY (SELECT {shown} FROM read_parquet('{todo}')) TO '{target}' ({how})")
    Ledger(paths).commit(plan["plan_id"], [])
    with target.open("rb") as file_of_rows:
        header = replace(header, sha256={"parquet": hashlib.file_digest(file_of_rows, "sha256").hexdigest()})
    header_log(paths).create(header, header.number)
    (home / "images" / "manifest.json").write_bytes(header.to_bytes())
    with (home / "known.csv").open("w", newline="") as known_file:
        writer = csv.writer(known_file)
        for row in rows(count):
            cells = dict(zip(COLUMNS, row, strict=True))
            writer.writerow([cells["sku"], digest(cells)])
    return first


def paths_of(home: Path) -> Any:
    """Paths of the catalog's files."""
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.storage import storage_path

    return CatalogPaths(storage_path(str(home / "images")))


def ours(home: Path, run_id: str = "idle", prompt: str = PROMPT) -> dict[str, Any]:
    """Plan a run."""
    from airflow_provider_bgrep.catalog.config.options import Options
    from airflow_provider_bgrep.catalog.plan.create import create_plan

    options = Options.checked(
        {
            "catalog": str(home / "catalog.csv"),
            "destination": str(home / "images"),
            "defaults": {"positive_prompt": prompt},
            "valid_for": 3600,
            "check_sources": "off",  # the images do not exist
        }
    )
    return create_plan(options, paths_of(home), dag_id="bench", run_id=run_id)


def changed(home: Path) -> dict[str, Any]:
    """Plan a run after the template of all prompts has changed. It stays planned: make the catalog again."""
    return ours(home, "changed", f"{PROMPT}, seen from above")


def digest(cells: dict[str, Any]) -> str:
    """The hash of a row, as a script would compute it."""
    return hashlib.md5("|".join(str(cells[name]) for name in USED).encode()).hexdigest()  # noqa: S324


def script(home: Path) -> dict[str, Any]:
    """What a careful script does: the standard library's reader, a dictionary of hashes."""
    with (home / "known.csv").open(newline="") as file:
        known = {sku: seen for sku, seen in csv.reader(file)}  # noqa: C416 (of pairs)
    unchanged = 0
    with (home / "catalog.csv").open(newline="") as file:
        for cells in csv.DictReader(file):
            unchanged += known.get(cells["sku"]) == digest(cells)
    return {"counts": {"unchanged": unchanged}}


def limit(home: Path) -> dict[str, Any]:
    """The limit: DuckDB's own reader, its hash, one join. It checks nothing, and knows no line."""
    import duckdb

    hashed = f"md5(concat_ws('|', {', '.join(f'coalesce({name}, chr(0))' for name in USED)}))"
    hashed = hashed.replace("chr(0)", "''")
    with duckdb.connect() as db:
        (unchanged,) = db.execute(
            f"SELECT count(*) FROM read_csv('{home}/catalog.csv', header = true, all_varchar = true) c "
            f"JOIN read_csv('{home}/known.csv', header = false, all_varchar = true, names = ['k', 'seen']) "
            f"ON c.sku = k AND {hashed} = seen"
        ).fetchone() or (0,)
    return {"counts": {"unchanged": unchanged}}


SUBJECTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "ours": ours,
    "changed": changed,
    "script": script,
    "limit": limit,
}


def main() -> None:
    """Run one."""
    what, home = sys.argv[1], Path(sys.argv[2])
    if what == "make":
        began = time.perf_counter()
        first = make(home, int(sys.argv[3]))
        print(json.dumps({"wall": time.perf_counter() - began, "first": first}))
        return
    if what in {"ours", "changed"}:
        import airflow_provider_bgrep.catalog.plan.create  # noqa: F401 (a task's start is not the run's)

        # So is that Airflow imports the file systems of all installed providers, boto3 among them.
        paths_of(home).destination.exists()
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    wall, cpu = time.perf_counter(), time.process_time()
    found = SUBJECTS[what](home)
    out = {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "base_mb": base,
        "unchanged": found["counts"].get("unchanged", 0),
        "changed": found["counts"].get("changed", 0),
    }
    print(json.dumps(out))


if __name__ == "__main__":
    main()
