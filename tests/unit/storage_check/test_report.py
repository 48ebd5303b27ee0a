# SPDX-License-Identifier: Apache-2.0
"""A report as a table, as JSON, and as an answer."""

from __future__ import annotations

import json

import pytest

from airflow_provider_bgrep.storage_check.report import EXCLUSION, Finding, Level, StorageReport


def report(**found: Level) -> StorageReport:
    """A report with a level for each essential check."""
    all_of_them = {"write": Level.OK, "exclusion": Level.OK, **found}
    return StorageReport(
        "s3://shop/images",
        "s3fs.core.S3FileSystem (s3fs 1.0)",
        tuple(
            Finding(EXCLUSION if name == "exclusion" else name, level, "try", "come", "mean", name != "etag")
            for name, level in all_of_them.items()
        ),
    )


@pytest.mark.parametrize(
    ("found", "answers"),
    [
        ({}, (True, True, True, True)),
        ({"etag": Level.NOTE}, (True, True, True, True)),
        ({"etag": Level.UNKNOWN}, (True, True, True, True)),
        ({"exclusion": Level.UNSAFE}, (False, True, False, True)),
        ({"write": Level.UNSAFE}, (False, True, True, False)),
        ({"write": Level.UNKNOWN}, (False, False, True, False)),
        ({"exclusion": Level.UNKNOWN}, (False, False, False, False)),
        ({"write": Level.UNKNOWN, "exclusion": Level.UNSAFE}, (False, True, False, False)),
    ],
    ids=str,
)
def test_the_levels_decide_what_a_store_is_safe_for(found, answers):
    one = report(**found)
    assert (one.is_safe, one.is_checked, one.can_exclude, one.is_safe_for_one) == answers


def test_the_table_has_every_finding_within_its_width():
    long = Finding("etag", Level.NOTE, "compare " * 20, "differs " * 20, "nothing " * 20)
    one = StorageReport("s3://shop", "s3fs", (*report().findings, long))
    lines = one.as_table(100).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].endswith("s3://shop")
    assert "tried" in lines[3]
    assert "came" in lines[3]
    assert sum(line.count("differs") for line in lines) == 20
    assert lines[-1] == one.conclusion
    assert str(one) == one.as_table()


def test_a_report_survives_json():
    one = report(exclusion=Level.UNSAFE)
    values = json.loads(json.dumps(one.as_dict()))
    assert StorageReport.from_dict(values) == one
    assert (values["is_safe"], values["can_exclude"]) == (False, False)
    assert values["conclusion"] == one.conclusion


@pytest.mark.parametrize("values", [{}, {"path": "", "store": "", "findings": [{}]}, {"findings": None}])
def test_other_json_is_refused(values):
    with pytest.raises(ValueError, match="not a report"):
        StorageReport.from_dict(values)
