# SPDX-License-Identifier: Apache-2.0
"""The tasks of a catalog refresh in a container: no home, a read-only disk, a small temporary folder.

It stands in for a Kubernetes pod: an own mount namespace, a user without rights, and a limit of memory. The
container's image, its network and the executor are not part of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness.images import draw_images, served
from bgrep_harness.s3 import connection_json, make_bucket

from airflow_provider_bgrep.emulator.inprocess import Emulator

ROWS, MEMORY = 12, 768 * 1024 * 1024
HARNESS = Path(__file__).parents[1] / "harness"

TASKS = """
import json, os, pathlib, resource, sys
sys.path[:0] = sys.argv[2:]
from bgrep_harness.refresh import Refresh
from bgrep_harness.tasks import TaskInstance, run_task

def can_write(folder):
    try:
        (pathlib.Path(folder) / "a file").write_text("x")
    except OSError:
        return False
    return True

given = json.load(open(sys.argv[1]))
refresh = Refresh(given["destination"], run_task, TaskInstance, given["options"])
runs = [refresh.run(given["rows"]) for _ in range(2)]
temporary = os.environ["TMPDIR"]
print("RESULT", json.dumps({
    "states": [run.states for run in runs],
    "counts": [run.counts for run in runs],
    "published": sum(row["status"] == "live" for row in refresh.manifest()),
    "user": os.getuid(),
    "writable": [name for name in ("/", "/tmp", given["package"]) if can_write(name)],
    "left": [name for name in os.listdir(temporary) if name != "airflow"],
    "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
}))
"""

ENTER = """
set -e
mount --make-rprivate /
mount -o remount,bind,ro /
mount -t tmpfs -o size=64m,mode=1777 tmpfs "$TMPDIR"
exec setpriv --reuid 65534 --regid 65534 --clear-groups \
  --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search --bounding-set=-all,+dac_read_search \
  "$@"
"""
"""Reading everything is the one capability: Python may be installed where only root can read."""


def is_allowed() -> bool:
    enter = ["unshare", "--mount", "sh", "-c", "mount -o remount,bind,ro / && ! touch /a-file-of-a-test"]
    with contextlib.suppress(OSError):
        return os.geteuid() == 0 and subprocess.run(enter, capture_output=True, check=False).returncode == 0
    return False


pytestmark = pytest.mark.skipif(not is_allowed(), reason="needs root and mount namespaces")


@contextlib.contextmanager
def memory_limit(limit: int) -> Iterator[Path]:
    """A control group for memory; yields its file of processes."""
    root, name = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():  # version 2
        root, name = root.parent, "memory.max"
    group = root / f"bgrep-{secrets.token_hex(4)}"
    try:
        group.mkdir()
        (group / name).write_text(str(limit))
    except OSError as error:
        pytest.skip(f"needs a control group for memory: {error}")
    yield group / "cgroup.procs"
    group.rmdir()


def test_tasks_need_no_more_than_a_container_has(s3_url: str, tmp_path: Path):
    bucket = f"container-{secrets.token_hex(4)}"
    make_bucket(s3_url, bucket)
    draw_images(tmp_path / "images")
    (tmp_path / "tmp").mkdir()
    with Emulator() as emulator, served(tmp_path / "images") as site, memory_limit(MEMORY) as processes:
        rows = [
            {
                "sku": f"S{number}",
                "image": f"{site}/product.png?v={number}",
                "mask": f"{site}/mask.png",
                "positive_prompt": f"on marble {number}",
            }
            for number in range(ROWS)
        ]
        given = {
            "destination": f"s3://shop@{bucket}/images",
            "options": {"shard_size": 4},
            "rows": rows,
            "package": sys.prefix,
        }
        (tmp_path / "given.json").write_text(json.dumps(given))
        found = in_container(
            tmp_path,
            processes,
            {
                "AIRFLOW_CONN_BGREP_DEFAULT": emulator.connection_json,
                "AIRFLOW_CONN_SHOP": connection_json(s3_url),
            },
        )
        assert found["user"] == 65534
        assert found["writable"] == []
        assert found["counts"] == [{"new": ROWS}, {"unchanged": ROWS}]
        assert {*found["states"][0].values()} == {"success"}
        assert found["published"] == ROWS
        assert found["left"] == [], "nothing stays in the temporary folder"
        assert emulator.counters.images == ROWS
        assert 0 < found["memory"] < MEMORY


def in_container(folder: Path, processes: Path, connections: dict[str, str]) -> dict[str, Any]:
    """Run the tasks there, and return what they found."""
    temporary = folder / "tmp"
    env = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "TMPDIR": str(temporary),
        "AIRFLOW_HOME": str(temporary / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "NO_PROXY": "127.0.0.1",
        "PYTHONDONTWRITEBYTECODE": "1",
        **connections,
    }
    tasks = [sys.executable, "-c", textwrap.dedent(TASKS), str(folder / "given.json")]
    paths = [str(HARNESS), str(HARNESS.parents[1] / "demo")]
    join = f'echo $$ > {processes}; exec unshare --mount sh -c "$0" sh "$@"'
    done = subprocess.run(
        ["sh", "-c", join, ENTER, *tasks, *paths],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    results = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert results, f"exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return dict(json.loads(results[0].removeprefix("RESULT ")))
