# SPDX-License-Identifier: Apache-2.0
"""What the plan task reads of sources before anything is submitted, and which rows it keeps back.

``tests/contract/test_source_check.py`` has whole runs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from bgrep_harness.drawings import packed, product
from bgrep_harness.runs import row
from PIL import Image, ImageChops

from airflow_provider_bgrep.catalog.plan.builder import Run
from airflow_provider_bgrep.catalog.plan.create import draft_plan
from airflow_provider_bgrep.catalog.source.beginnings import SourceReader
from airflow_provider_bgrep.client import without_waiting

pytestmark = pytest.mark.usefixtures("temporary_files_in_memory")

IMAGE, MASK = product()


@pytest.fixture
def site() -> Iterator[Any]:
    files: dict[str, bytes | int] = {
        "good": packed(IMAGE),
        "mask": packed(MASK),
        "inverted": packed(ImageChops.invert(MASK)),
        "small": packed(Image.new("RGB", (399, 500))),
        "other-size": packed(MASK.resize((500, 500))),
        "text": b"no image",
        "busy": 503,
    }
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.partition("?")[0].strip("/")
            asked.append(name)
            found = files.get(name, 404)
            body = found if isinstance(found, bytes) else b""
            self.send_response(200 if isinstance(found, bytes) else found)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = asked  # type: ignore[attr-defined]
    server.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    with without_waiting():
        yield server
    server.shutdown()
    server.server_close()


def checked(destination: Any, site: Any, rows: dict[str, tuple[str, ...]], **options: Any) -> Any:
    """A draft of a plan.

    :param rows: image and mask, by sku.
    """
    catalog = [
        row(sku, **dict(zip(("image", "mask"), (f"{site.url}/{name}?{sku}" for name in names), strict=False)))
        for sku, names in rows.items()
    ]
    given = destination._options(catalog, {"check_sources": "all", **options})
    run = Run(plan_id="", dag_id="nightly", run_id="run", now=destination.later)
    reader = SourceReader(None, None, allow_private=True)
    with draft_plan(given, destination.paths, run, lambda urls: {}, reader) as draft:
        states = dict(draft.db.execute("SELECT name, state FROM decided").fetchall())
        return draft.plan, {one.sku: one.column for one in draft.invalid}, states


@pytest.mark.parametrize(
    ("names", "column"),
    [
        (("good",), None),
        (("good", "mask"), None),
        (("small",), "image"),
        (("text",), "image"),
        (("missing",), "image"),
        (("good", "missing"), "mask"),
        (("good", "other-size"), "mask"),
        (("good", "inverted"), "mask"),
        (("missing", "missing"), "image, mask"),
        (("busy",), None),
    ],
    ids=str,
)
def test_a_row_that_would_be_refused_is_invalid_by_its_column(destination, site, names, column):
    plan, invalid, states = checked(destination, site, {"a": names, "b": ("good",)})
    assert invalid == ({"a": column} if column else {})
    assert states == {"a": "invalid" if column else "new", "b": "new"}
    assert (plan.counts["invalid"], plan.quote.images) == ((1, 1) if column else (0, 2))


def test_switched_off_nothing_is_read(destination, site):
    plan, invalid, _ = checked(destination, site, {"a": ("missing",)}, check_sources="off")
    assert (plan.counts["new"], invalid, site.asked) == (1, {}, [])


def test_what_cannot_be_read_is_submitted_and_noted(destination, site):
    plan, invalid, _ = checked(destination, site, {"a": ("busy",)})
    assert invalid == {}
    assert any("503" in note for note in plan.notes)


def test_a_sample_with_many_refused_rows_needs_approval(destination, site):
    many = {f"s{i}": ("missing",) for i in range(150)}
    plan, invalid, _ = checked(destination, site, many, check_sources="sample")
    assert len(invalid) == 75  # every second row
    assert plan.needs_approval
    assert "75" in plan.concern
    assert "check_sources" in plan.concern


def test_where_every_row_was_checked_no_person_is_asked(destination, site):
    plan, invalid, _ = checked(destination, site, {"a": ("missing",), "b": ("good",)})
    assert len(invalid) == 1
    assert not plan.needs_approval


@pytest.mark.parametrize("check_sources", ["sample", "all"])
def test_an_invalid_row_takes_nothing_of_the_budget(destination, site, check_sources):
    rows = {f"s{i}": ("missing",) for i in range(4)} | {f"t{i}": ("good",) for i in range(3)}
    budget = {"check_sources": check_sources, "max_images_per_run": 2}
    plan, invalid, states = checked(destination, site, rows, **budget)
    assert sorted(invalid) == ["s0", "s1", "s2", "s3"]
    assert {name for name, state in states.items() if state == "new"} == {"t0", "t1"}
    assert (plan.quote.images, plan.quote.backlog) == (2, 1)
    assert (plan.counts["invalid"], plan.counts["over_budget"]) == (4, 1)
    assert not plan.needs_approval
    assert "t2" not in {path.partition("?")[2] for path in site.asked}, "it is over budget"


@pytest.mark.slow
def test_a_sample_is_not_larger_for_all_that_is_invalid(destination, site):
    rows = {f"s{i:03}": ("missing",) for i in range(150)} | {"t": ("good",)}
    budget = {"check_sources": "sample", "max_images_per_run": 30}
    plan, invalid, _ = checked(destination, site, rows, **budget)
    assert len(invalid) == len(site.asked) == 100
    assert (plan.quote.images, plan.counts["over_budget"]) == (30, 21)
    assert plan.needs_approval, "the others were not read"
