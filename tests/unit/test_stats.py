# SPDX-License-Identifier: Apache-2.0
"""What Airflow's StatsD client gets, over a real socket, and what it never does to a task."""

from __future__ import annotations

from types import SimpleNamespace

from bgrep_harness.statsd import initialize, statsd  # noqa: F401 (a fixture)

from airflow_provider_bgrep.metrics import CATALOG_ROWS, IMAGES_BILLABLE, METRICS, SPEND
from airflow_provider_bgrep.stats import count, gauge

TI = SimpleNamespace(dag_id="商店.eu", task_id="catalog_refresh.shards.generate")


def test_counters_add_and_gauges_replace(statsd):  # noqa: F811
    for value in (2, 0, 3):
        count(IMAGES_BILLABLE, value)
        gauge(CATALOG_ROWS, value, "shop", "refresh")
    count(SPEND, 0.4)
    assert statsd.sums == {"images.billable": 5, "spend": 0.4}
    assert statsd.gauges == {"bgrep.catalog.rows.shop.refresh": 3}
    assert len(statsd.received) == 6, "0 is not sent to a counter"


def test_names_do_not_need_tags_and_have_them_in_influxdb(statsd, monkeypatch):  # noqa: F811
    count(IMAGES_BILLABLE, 1, TI)
    assert statsd.sums == {"images.billable": 1}
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED", "True")
    initialize()
    count(IMAGES_BILLABLE, 1, TI)
    (name,) = {name for name in statsd.sums if "," in name}
    assert name.startswith("images.billable,dag_id=__")
    assert name.endswith("task_id=catalog_refresh__shards__generate")


def test_airflow_drops_none_of_the_names(statsd):  # noqa: F811
    for metric in METRICS:
        gauge(metric, 1, *["商" * 250] * len(metric.labels))
    assert len(statsd.read().gauges) == len(METRICS)


def test_a_client_that_cannot_be_made_raises_nothing(statsd, monkeypatch, caplog):  # noqa: F811
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_PORT", "no port")
    initialize()
    count(IMAGES_BILLABLE, 1)
    gauge(CATALOG_ROWS, 1, "shop", "refresh")
    assert [record.args[0] for record in caplog.records if "metric" in record.msg] == [
        IMAGES_BILLABLE.name,
        CATALOG_ROWS.name,
    ]


def test_a_gauge_without_its_labels_is_only_logged(statsd, caplog):  # noqa: F811
    gauge(CATALOG_ROWS, 1)
    assert statsd.read().received == []
    assert "bgrep.catalog.rows" in caplog.text


def test_without_airflows_switch_nothing_is_sent(statsd, monkeypatch):  # noqa: F811
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "False")
    initialize()
    count(IMAGES_BILLABLE, 1)
    assert statsd.read().received == []
