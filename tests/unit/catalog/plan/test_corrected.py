# SPDX-License-Identifier: Apache-2.0
"""Refused rows whose source was corrected at its old URL are found, a bounded number in each run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import duckdb
import pytest

from airflow_provider_bgrep.catalog.model.plan import new_plan_id
from airflow_provider_bgrep.catalog.plan.corrected import (
    IS_REFUSED,
    MOST,
    MOST_ATTEMPTS,
    corrected,
    refused_rows,
)
from airflow_provider_bgrep.catalog.source.beginnings import SourceReader

DAY = 86_400.0
SUBMITTED = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


# --- which rows ---------------------------------------------------------------------------------------


def plan_of(number: int, made: float) -> str:
    return new_plan_id(number + 1, made, "0" * 8)


def refused(
    *rows: tuple[int, str, str, int, list[str]], now: float = SUBMITTED + DAY, plans: float = SUBMITTED - 60
) -> dict[int, float]:
    """Which rows are asked about.

    :param rows: line, decision, outcome, attempts, and when it was submitted, each time by a later plan.
    :param now: the clock of the plan task that asks.
    :param plans: when the plans were made that have submitted them, by the clocks of their plan tasks.
    """
    with duckdb.connect() as db:
        db.execute("CREATE TABLE b (name VARCHAR, decision VARCHAR, outcome VARCHAR, attempts BIGINT)")
        db.execute("CREATE TABLE cat (line BIGINT, purchase BIGINT)")
        db.execute("CREATE TABLE entries (name VARCHAR, submitted_at VARCHAR, plan_id VARCHAR)")
        for place, (line, decision, outcome, attempts, submits) in enumerate(rows):
            db.execute("INSERT INTO b VALUES (?, ?, ?, ?)", [f"s{line}", decision, outcome, attempts])
            db.execute("INSERT INTO cat VALUES (?, ?)", [line, place])
            for number, when in enumerate(submits):
                db.execute("INSERT INTO entries VALUES (?, ?, ?)", [f"s{line}", when, plan_of(number, plans)])
        db.execute(
            f"CREATE TABLE purchases AS SELECT name, decision = 'quarantined' AND {IS_REFUSED} AS is_refused "
            "FROM b ORDER BY b.rowid"
        )
        return refused_rows(db, now)


AT = "2026-01-01T00:00:00+00:00"


def test_the_last_submit_of_a_refused_row_counts():
    found = refused((2, "quarantined", "refused", 1, ["2025-01-01T00:00:00+00:00", AT, ""]))
    assert found == {2: SUBMITTED}


@pytest.mark.parametrize(
    ("plans", "submitted"), [(SUBMITTED - 60, SUBMITTED - 60), (SUBMITTED + 365 * DAY, 0.0)]
)
def test_a_submit_in_the_future_was_made_before_now(plans, submitted):
    ahead = (2, "quarantined", "refused", 1, ["2027-01-01T00:00:00+00:00"])
    assert refused(ahead, plans=plans) == {2: submitted}


def test_the_last_submit_is_that_of_the_last_plan():
    again = (2, "quarantined", "refused", 2, ["2025-12-31T23:00:00+00:00", "2025-12-01T00:00:00+00:00"])
    assert refused(again) == {2: SUBMITTED - 31 * DAY}
    repaired = (2, "quarantined", "refused", 2, ["2027-01-01T00:00:00+00:00", AT])
    assert refused(repaired) == {2: SUBMITTED}, "once is enough"


@pytest.mark.parametrize(
    "row",
    [
        (2, "flagged", "refused", 1, [AT]),
        (2, "quarantined", "failed", 1, [AT]),
        (2, "quarantined", "refused", MOST_ATTEMPTS, [AT]),
        (2, "quarantined", "refused", 1, [""]),
        (2, "quarantined", "refused", 1, []),
    ],
    ids=["not quarantined", "failed", "too often", "no time", "no entry"],
)
def test_other_rows_are_not_asked_about(row):
    assert refused(row) == {}


@pytest.mark.slow
def test_in_each_run_other_rows_are_asked_about():
    rows = [(line, "quarantined", "refused", 1, [AT]) for line in range(2 * MOST)]
    first, second = refused(*rows), refused(*rows)
    assert len(first) == len(second) == MOST
    assert first.keys() != second.keys()


# --- what their hosts say -----------------------------------------------------------------------------


@pytest.fixture
def site() -> Iterator[SimpleNamespace]:
    """A host whose files changed as many seconds after the submit as their names say."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/")
            site.asked.append(name)
            self.send_response(200)
            if name == "now":
                self.send_header("Last-Modified", self.date_time_string())
            elif name != "undated":
                changed = datetime.fromtimestamp(SUBMITTED + int(name) + site.ahead, UTC)
                self.send_header("Last-Modified", format_datetime(changed, usegmt=True))
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"text")

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(time.time() + site.ahead)

        def log_message(self, *args: object) -> None:
            pass

    site = SimpleNamespace(asked=[], ahead=0, url="")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield site
    server.shutdown()
    server.server_close()


def test_rows_whose_image_or_mask_changed_since_are_corrected(site):
    names = {1: ["60"], 2: ["-60"], 3: ["-60", "60"], 4: ["0"], 5: ["undated"], 6: [], 7: ["now"]}
    urls = {line: [f"{site.url}/{name}" for name in some] for line, some in names.items()}
    reader = SourceReader(None, None, allow_private=True)
    assert corrected(dict.fromkeys(names, SUBMITTED), urls, reader) == [1, 3]
    assert sorted(site.asked) == sorted({"60", "-60", "0", "undated", "now"})


@pytest.mark.parametrize("ahead", [-3 * 86_400, -3_600, 3_600, 3 * 86_400])
def test_the_clock_of_a_host_does_not_matter(site, ahead):
    site.ahead = ahead
    urls = {line: [f"{site.url}/{name}"] for line, name in ((1, "60"), (2, "-60"), (3, "now"))}
    reader = SourceReader(None, None, allow_private=True)
    assert corrected(dict.fromkeys(urls, SUBMITTED), urls, reader) == [1]


def test_object_storage_is_not_asked(site):
    reader = SourceReader(None, None, allow_private=True)
    before = time.time()
    assert corrected({1: SUBMITTED}, {1: ["s3://shop/lamp.jpg"]}, reader) == []
    assert time.time() - before < 60
    assert site.asked == []
