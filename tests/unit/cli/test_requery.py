# SPDX-License-Identifier: Apache-2.0
"""The command that queries a job. Queries over HTTP are in tests/contract/test_cli.py."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.cli.__main__ import main
from airflow_provider_bgrep.client import without_waiting


def test_a_key_that_cannot_be_one_is_not_sent(monkeypatch, capsys):
    # Nothing listens there: a request would end with 4.
    monkeypatch.setenv("AIRFLOW_CONN_BGREP_DEFAULT", "bgrep://:code@127.0.0.1:9/?allow_http=true")
    assert main(["requery", " "]) == 2
    assert "result_key" in capsys.readouterr().err


def test_a_service_that_cannot_be_reached_ends_with_4(monkeypatch, capsys):
    monkeypatch.setenv("AIRFLOW_CONN_BGREP_DEFAULT", "bgrep://:canary0code@127.0.0.1:9/?allow_http=true")
    with without_waiting():
        assert main(["requery", "0" * 32]) == 4
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "canary0code" not in printed.err


@pytest.mark.parametrize("uri", ["bgrep://:@shop.example", "bgrep://:code@"])
def test_an_invalid_connection_ends_with_2(uri, monkeypatch, capsys):
    monkeypatch.setenv("AIRFLOW_CONN_BGREP_DEFAULT", uri)
    assert main(["requery", "0" * 32]) == 2
    assert "Connection 'bgrep_default' has" in capsys.readouterr().err
