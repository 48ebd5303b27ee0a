# SPDX-License-Identifier: Apache-2.0
"""What Airflow reads about this provider holds, by Airflow's own schema and by what is there to import."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import airflow
import jsonschema
import pytest

from airflow_provider_bgrep import __version__
from airflow_provider_bgrep.connection import EXTRAS, parse_connection
from airflow_provider_bgrep.get_provider_info import get_provider_info

INFO = get_provider_info()
(CONNECTION,) = INFO["connection-types"]


def test_airflows_own_schema_accepts_it():
    schema = Path(airflow.__file__).parent / "provider_info.schema.json"
    jsonschema.validate(INFO, json.loads(schema.read_text("utf-8")))


def test_it_is_plain_json_and_made_again_for_each_caller():
    assert json.loads(json.dumps(INFO)) == INFO
    get_provider_info()["connection-types"].clear()
    assert get_provider_info() == INFO


def test_it_names_this_package_and_its_version():
    assert INFO["package-name"] == "airflow-provider-bgrep"
    assert INFO["versions"] == [__version__]


@pytest.mark.parametrize("part", ["hooks", "operators", "sensors", "triggers"])
def test_every_module_it_names_is_there(part):
    (entry,) = INFO[part]
    assert entry["integration-name"] == INFO["integrations"][0]["integration-name"]
    for module in entry["python-modules"]:
        importlib.import_module(module)


def test_the_named_hook_exists_and_has_its_connection_type():
    module, _, name = CONNECTION["hook-class-name"].rpartition(".")
    hook = getattr(importlib.import_module(module), name)
    assert hook.conn_type == CONNECTION["connection-type"] == "bgrep"
    assert hook.hook_name == CONNECTION["hook-name"]
    assert hook.default_conn_name == "bgrep_default"


def test_the_form_has_a_field_for_every_extra_and_no_other():
    assert (
        set(CONNECTION["conn-fields"])
        == set(EXTRAS)
        == {
            "timeout",
            "verify",
            "proxies",
            "cert",
            "submit_path",
            "query_path",
            "max_requests_per_second",
            "allow_http",
        }
    )


def test_the_form_hides_unused_fields_and_labels_the_password():
    form = CONNECTION["ui-field-behaviour"]
    assert "login" in form["hidden-fields"]
    assert form["relabeling"]["password"] == "AppCode"
    assert {"host", "password"} <= set(form["placeholders"])


@pytest.mark.parametrize("name", EXTRAS)
def test_a_fields_schema_takes_what_the_parser_takes(name):
    schema = CONNECTION["conn-fields"][name]["schema"]
    assert "null" in schema["type"]
    examples = {
        "number": 7,
        "boolean": True,
        "string": {"proxies": '{"https": "http://p:1"}'}.get(name, "/path"),
        "object": {"https": "http://p:1"},
        "array": ["/cert", "/key"],
        "null": None,
    }
    for kind in schema["type"]:
        extra = {name: examples[kind]}
        parse_connection(host="example.com", schema=None, port=None, password="code", extra=extra)
