# SPDX-License-Identifier: Apache-2.0
"""The settings that are read from an Airflow connection."""

from __future__ import annotations

import json
import logging

import pytest
from airflow.providers.common.compat.sdk import Connection

from airflow_provider_bgrep.exceptions import BgRepConfigurationError
from airflow_provider_bgrep.hooks.settings import read_settings


def connection(**given) -> Connection:
    usual = {"conn_id": "shop", "conn_type": "bgrep", "host": "api.example", "password": "the-app-code"}
    return Connection(**{**usual, **given})


def test_the_appcode_may_have_its_prefix():
    assert read_settings(connection(password=" APPCODE the-app-code\n"), "shop").app_code == "the-app-code"


def test_files_for_tls_that_are_not_on_this_machine_are_named(tmp_path):
    there = tmp_path / "key.pem"
    there.write_text("")
    missing = [f"{tmp_path}/bundle.pem", f"{tmp_path}/cert.pem"]
    extra = json.dumps({"verify": missing[0], "cert": [missing[1], str(there)]})
    with pytest.raises(BgRepConfigurationError) as caught:
        read_settings(connection(extra=extra), "shop")
    assert all(part in caught.value.message for part in ("extra.verify", "extra.cert", *missing))
    assert str(there) not in caught.value.message


def test_every_problem_of_a_connection_is_named_and_no_secret(caplog):
    caplog.set_level(logging.DEBUG)
    extra = json.dumps({"tiemout": 3, "verify": "maybe/", "timeout": -1})
    with pytest.raises(BgRepConfigurationError) as raised:
        read_settings(connection(port=99999999, password="two words", schema="ftp", extra=extra), "shop")
    text = str(raised.value)
    for part in ("'shop'", "schema", "password", "extra.tiemout", "'timeout'", "extra.timeout"):
        assert part in text
    assert "two words" not in text + caplog.text
