# SPDX-License-Identifier: Apache-2.0
"""The page about alerts and metrics, and the files for Prometheus and Grafana: they name what is sent."""

from __future__ import annotations

import json
import re
import runpy
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_provider_bgrep.catalog.config.groups import BudgetOptions, CheckOptions, PublishOptions
from airflow_provider_bgrep.metrics import COUNTER, METRICS, Metric

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "alerts.rst").read_text(encoding="utf-8")
MONITORING = DOCS / "monitoring"
ROWS = runpy.run_path(str(DOCS / "_ext" / "metric_rows.py"))
PROMETHEUS = {ROWS["prometheus_name"](one): one for one in METRICS}
NAME = re.compile(r"\bbgrep_[a-z_]+\b")


def mapping() -> list[dict[str, Any]]:
    return list(yaml.safe_load((MONITORING / "statsd-exporter.yml").read_text(encoding="utf-8"))["mappings"])


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((MONITORING / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return list(group["rules"])


def dashboard() -> dict[str, Any]:
    return dict(json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8")))


def mapped(metric: Metric) -> tuple[str, dict[str, str]]:
    """The name and labels that the mapping gives to a metric, by the rules of statsd_exporter."""
    values = [f"value-of-{label}" for label in metric.labels]
    segments = ["airflow", *metric.of(*values).split(".")]
    for one in mapping():
        patterns = one["match"].split(".")
        if one["match_metric_type"] == metric.kind and len(patterns) == len(segments):
            if not all(map(fnmatchcase, segments, patterns)):
                continue
            found = [text for text, pattern in zip(segments, patterns, strict=True) if pattern == "*"]

            def filled(text: str, found: list[str] = found) -> str:
                return re.sub(r"\$\{?(\d)\}?", lambda number: found[int(number[1]) - 1], text)

            labels = {name: filled(text) for name, text in one.get("labels", {}).items()}
            return filled(one["name"]), labels
    raise AssertionError(f"no mapping for {metric.name}")


@pytest.mark.parametrize("metric", METRICS, ids=lambda one: one.name)
def test_the_mapping_names_and_labels_each_metric(metric: Metric):
    expected = {label: f"value-of-{label}" for label in metric.labels}
    assert mapped(metric) == (ROWS["prometheus_name"](metric), expected)


def test_the_table_on_the_page_has_every_metric():
    rows = list(ROWS["rows_of_metrics"]())
    assert [row[0].strip("`").split(".{")[0] for row in rows] == [one.name for one in METRICS]
    assert all(len(row) == 5 and all(row) for row in rows)
    assert ".. bgrep-metrics::" in PAGE


def test_each_rule_is_about_metrics_that_are_sent():
    found = rules()
    assert len({one["alert"] for one in found}) == len(found) > 8
    for one in found:
        names = set(NAME.findall(one["expr"]))
        assert names, one["alert"]
        assert names <= set(PROMETHEUS), one["alert"]
        assert one["annotations"]["summary"]
        assert one["labels"]["severity"] in ("info", "warning", "critical")


def test_labels_in_the_text_of_rules_are_those_of_the_metric():
    for one in rules():
        for label in re.findall(r"\$labels\.(\w+)", json.dumps(one["annotations"])):
            assert "sum(" not in one["expr"], one["alert"]
            for name in NAME.findall(one["expr"]):
                assert label in PROMETHEUS[name].labels, one["alert"]


def test_counters_are_read_as_increases_and_gauges_are_not():
    texts = [one["expr"] for one in rules()]
    texts += [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    for text in texts:
        for name in NAME.findall(text):
            is_increase = f"increase({name}[" in text or f"rate({name}[" in text
            assert is_increase is (PROMETHEUS[name].kind == COUNTER), text


def test_the_dashboard_shows_every_metric_but_the_age():
    found = dashboard()
    text = json.dumps(found["panels"])
    names = set(NAME.findall(text))
    # The age at the time of a plan is for those who cannot compute it.
    assert names == set(PROMETHEUS) - {"bgrep_catalog_publish_age"}
    places = [tuple(panel["gridPos"].values()) for panel in found["panels"]]
    assert len(set(places)) == len(places)
    ids = [panel["id"] for panel in found["panels"]]
    assert len(set(ids)) == len(ids)
    variables = {one["name"] for one in found["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", text)) <= variables


@pytest.mark.parametrize("word", ["alert", "metric", "Prometheus", "StatsD", "Grafana", "DingTalk", "Slack"])
def test_a_search_for_the_word_finds_the_page(word: str):
    assert word in PAGE


def test_the_page_is_linked():
    index = (DOCS / "index.rst").read_text(encoding="utf-8")
    assert ":doc:`alerts`" in index
    assert "\n   alerts\n" in index
    for name in ("statsd-exporter.yml", "alerts.yml", "dashboard.json"):
        assert f"<monitoring/{name}>" in PAGE
        assert (MONITORING / name).exists()


def test_the_options_that_the_page_names_exist():
    names = {name for group in (BudgetOptions, CheckOptions, PublishOptions) for name in vars(group)}
    for option in ("fail_on_attention", "max_removed_share", "approve_above"):
        assert f"``{option}``" in PAGE
        assert option in names
