# SPDX-License-Identifier: Apache-2.0
"""What a connection may hold, and that its AppCode goes nowhere it could be read."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bgrep.connection import EXTRAS, Settings, is_loopback, parse_connection
from airflow_provider_bgrep.protocol.codes import Operation
from airflow_provider_bgrep.protocol.errors import InvalidInput

HOST = "name.market.alicloudapi.com"
CODE = "d1c0ffee00canary42a"


def parse(**values: Any) -> Settings:
    given_values = {"host": HOST, "schema": None, "port": None, "password": CODE, "extra": None, **values}
    return parse_connection(**given_values)


def problems(**values: Any) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        parse(**values)
    assert CODE not in str(caught.value)
    assert CODE not in repr(caught.value.problems)
    return {problem.where: problem.what for problem in caught.value.problems}


# --- host, schema, port ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "base_url"),
    [
        ({}, f"https://{HOST}"),
        ({"host": f"  {HOST}\n"}, f"https://{HOST}"),
        ({"host": f"https://{HOST}"}, f"https://{HOST}"),
        ({"host": f"HTTPS://{HOST.upper()}/"}, f"https://{HOST}"),
        ({"schema": "https"}, f"https://{HOST}"),
        ({"schema": " HTTPS "}, f"https://{HOST}"),
        ({"schema": "https", "host": f"https://{HOST}:8443", "port": 8443}, f"https://{HOST}:8443"),
        ({"port": 8443}, f"https://{HOST}:8443"),
        ({"host": f"{HOST}:8443"}, f"https://{HOST}:8443"),
        ({"host": "127.0.0.1", "schema": "http", "port": 80}, "http://127.0.0.1:80"),
        ({"host": "http://127.0.0.1:5001"}, "http://127.0.0.1:5001"),
        ({"host": "http://localhost:5001/"}, "http://localhost:5001"),
        ({"host": "127.9.9.9", "schema": "http"}, "http://127.9.9.9"),
        ({"host": "[::1]", "schema": "http"}, "http://[::1]"),
        ({"host": "http://[::1]:5001"}, "http://[::1]:5001"),
        # Airflow takes the brackets off the host of a connection given as a URI.
        ({"host": "::1", "schema": "http", "port": 5001}, "http://[::1]:5001"),
        ({"host": "2001:db8::7"}, "https://[2001:db8::7]"),
        ({"host": "[2001:db8::7]:8443"}, "https://[2001:db8::7]:8443"),
        ({"host": "example.com", "schema": "http", "extra": {"allow_http": True}}, "http://example.com"),
        ({"host": "http://example.com", "extra": '{"allow_http": "True"}'}, "http://example.com"),
        ({"host": "localhost"}, "https://localhost"),
    ],
    ids=str,
)
def test_a_host_becomes_a_base_url(values, base_url):
    assert parse(**values).base_url == base_url


@pytest.mark.parametrize("host", [None, "", "   "])
def test_a_missing_host_is_asked_for_by_example(host):
    assert "market.alicloudapi.com" in problems(host=host)["host"]


@pytest.mark.parametrize(
    ("values", "where", "says"),
    [
        ({"host": f"{HOST}/api/v1/bg-rep/submit"}, "host", "submit_path"),
        ({"host": f"https://{HOST}?a=b"}, "host", "contains a path"),
        ({"host": f"https://{HOST}#a"}, "host", "contains a path"),
        ({"host": f"user@{HOST}"}, "host", "credentials"),
        ({"host": f"https://:{CODE}@{HOST}"}, "host", "credentials"),
        ({"host": f"https://{CODE}:x@{HOST}"}, "host", "credentials"),
        ({"host": f"{HOST}:{CODE}"}, "host", "not a number"),
        ({"host": f"{HOST}:99999"}, "host", "not a number"),
        ({"host": "https://[::1"}, "host", "nor a URL"),
        ({"host": "two words"}, "host", "neither a domain"),
        ({"host": "https://"}, "host", "neither a domain"),
        ({"host": "ftp://example.com"}, "host", "neither a domain"),
        ({"host": "evil.com\\.localhost", "schema": "http"}, "host", "neither a domain"),
        ({"host": "evil.com%2f.localhost", "schema": "http"}, "host", "neither a domain"),
        ({"host": "evil.com;.localhost", "schema": "http"}, "host", "neither a domain"),
        ({"schema": "ftp"}, "schema", "give https"),
        ({"schema": "bgrep"}, "schema", "give https"),
        ({"schema": "http", "host": f"https://{HOST}"}, "schema", "leave one of them out"),
        ({"schema": "https", "host": "http://127.0.0.1"}, "schema", "leave one of them out"),
        ({"host": f"{HOST}:1", "port": 2}, "port", "leave one of them out"),
        ({"port": 70000}, "port", "1 to 65535"),
        ({"port": -1}, "port", "1 to 65535"),
    ],
    ids=str,
)
def test_an_invalid_address_is_refused_with_advice(values, where, says):
    found = problems(**values)
    assert list(found) == [where]
    assert says in found[where]


@pytest.mark.parametrize(
    "host",
    [
        HOST,
        "127.0.0.1.evil.com",
        "localhost.evil.com",
        "evil-localhost",
        "localhost.",
        "127.0.0.1.",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0.0.0.0",  # noqa: S104 - a host to refuse
        "10.0.0.1",
        "169.254.169.254",
        "[::]",
        "[::2]",
        "host.docker.internal",
        "１２７.0.0.1",
    ],
)
@pytest.mark.parametrize("extra", [None, {"allow_http": False}, {"allow_http": "false"}])
def test_plain_http_is_refused_to_any_host_but_loopback(host, extra):
    for values in ({"host": host, "schema": "http"}, {"host": f"http://{host}"}):
        found = problems(**values, extra=extra)
        assert set(found) <= {"schema", "host"}
        assert "allow_http" in found.get("schema", "allow_http")


def test_loopback_is_recognised_by_the_name_alone():
    assert all(map(is_loopback, ("localhost", "a.localhost", "127.0.0.1", "127.255.255.254", "::1")))
    assert not any(
        map(is_loopback, ("", "localhost.", "xlocalhost", "127.0.0.1.", "1.0.0.127", "::ffff:8.8.8.8"))
    )


# --- AppCode ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "password",
    [
        CODE,
        f" {CODE}\n",
        f"{CODE}\r\n",
        f"APPCODE {CODE}",
        f"appcode {CODE}",
        f"AppCode   {CODE}",
        f"APPCODE\t{CODE}",
        f"\nAPPCODE\u00a0{CODE}\n",
    ],
    ids=repr,
)
def test_an_app_code_is_taken_with_or_without_prefix_and_blanks(password):
    assert parse(password=password).app_code == CODE


def test_an_app_code_that_begins_like_the_prefix_is_kept_whole():
    assert parse(password="appcodeXYZ").app_code == "appcodeXYZ"


@pytest.mark.parametrize("password", [None, "", " ", "APPCODE", "appcode ", "APPCODE\n"], ids=repr)
def test_a_missing_app_code_is_asked_for(password):
    assert problems(password=password) == {"password": "is missing; give the AppCode"}


@pytest.mark.parametrize(
    "password",
    [
        f"{CODE} {CODE}",
        f"APPCODE APPCODE {CODE}",
        f"Authorization: APPCODE {CODE}",
        f"{CODE}\n{CODE}",
        f"{CODE}\x00",
        f"{CODE}\u200b",
        f"\ufeff{CODE}",
        f"{CODE}é",
        f"“{CODE}”",
    ],
    ids=repr,
)
def test_an_invalid_app_code_is_refused_without_showing_it(password):
    assert "copy it again" in problems(password=password)["password"]


def test_an_app_code_is_in_no_repr():
    settings = parse(extra={"proxies": {"https": "http://u:pr0xy@proxy:1"}})
    assert CODE not in repr(settings)
    assert "pr0xy" not in repr(settings)
    assert CODE not in f"{settings}"


def test_no_message_repeats_what_may_be_a_secret():
    extra = {"proxies": f"http://u:{CODE}@proxy", "appcode": CODE, "headers": {"Authorization": CODE}}
    found = problems(host=f"x:{CODE}", extra=extra)
    assert set(found) == {"host", "extra.proxies", "extra.appcode", "extra.headers"}
    assert problems(extra=f'{{"appcode": "{CODE}"') == {"extra": "is not a JSON object"}


# --- extras -------------------------------------------------------------------------------------------


def test_defaults():
    settings = parse()
    assert settings.timeout == 60.0
    assert settings.verify is True
    assert settings.proxies is None
    assert settings.cert is None
    assert settings.max_requests_per_second is None
    assert settings.paths == {
        Operation.SUBMIT: "/api/v1/bg-rep/submit",
        Operation.QUERY: "/api/v1/bg-rep/query",
    }


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("timeout", 7, 7.0),
        ("timeout", "7.5", 7.5),
        ("max_requests_per_second", "0.5", 0.5),
        ("verify", True, True),
        ("verify", False, False),
        ("verify", "true", True),
        ("verify", " False ", False),
        ("verify", "/etc/ca.pem", "/etc/ca.pem"),
        ("proxies", {"https": "http://p:1"}, {"https": "http://p:1"}),
        ("proxies", ' {"https": "http://p:1"}', {"https": "http://p:1"}),
        ("proxies", {}, {}),
        ("cert", "/c.pem", "/c.pem"),
        ("cert", ["/c.pem", "/k.pem"], ("/c.pem", "/k.pem")),
        ("cert", '["/c.pem", "/k.pem"]', ("/c.pem", "/k.pem")),
    ],
)
def test_an_extra_is_read_as_a_form_or_json_gives_it(name, value, expected):
    assert getattr(parse(extra={name: value}), name) == expected
    assert getattr(parse(extra=json.dumps({name: value})), name) == expected


def test_paths_may_be_moved():
    settings = parse(extra={"submit_path": "/v2/s", "query_path": "/v2/q?x=1"})
    assert settings.paths == {Operation.SUBMIT: "/v2/s", Operation.QUERY: "/v2/q?x=1"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", "soon"),
        ("timeout", True),
        ("timeout", math.inf),
        ("timeout", [1, 2]),
        ("max_requests_per_second", 0),
        ("max_requests_per_second", "nan"),
        ("verify", 0),
        ("verify", {}),
        ("proxies", "http://p:1"),
        ("proxies", ["http://p:1"]),
        ("proxies", {"https": 1}),
        ("proxies", '{"https": '),
        ("cert", ["/c.pem"]),
        ("cert", ["/c.pem", 1]),
        ("cert", '["/c.pem"'),
        ("cert", {}),
        ("submit_path", "api"),
        ("submit_path", "/a b"),
        ("query_path", 1),
        ("allow_http", "yes"),
        ("allow_http", 1),
    ],
)
def test_an_invalid_extra_is_refused_with_what_to_give(name, value):
    assert " give " in problems(extra={name: value})[f"extra.{name}"]


@pytest.mark.parametrize("nothing", [None, ""])
@pytest.mark.parametrize("name", EXTRAS)
def test_an_empty_field_of_the_form_is_the_default(name, nothing):
    assert parse(extra={name: nothing}) == parse()


@pytest.mark.parametrize("extra", [None, "", "  ", "{}", {}, "null"])
def test_no_extras_are_no_problem(extra):
    assert parse(extra=extra) == parse()


@pytest.mark.parametrize("extra", ["[]", "7", '"x"', "{", "{'a': 1}", "x"])
def test_extras_that_are_no_object_are_refused(extra):
    assert problems(extra=extra) == {"extra": "is not a JSON object"}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("time_out", "did you mean 'timeout'?"),
        ("Authorization", "the extras are"),
        ("check_response", "the extras"),
    ],
)
def test_an_unknown_extra_is_refused_by_name(name, says):
    found = problems(extra={name: "x"})
    assert says in found[f"extra.{name}"]


def test_everything_wrong_comes_in_one_message():
    found = problems(
        host="http://example.com",
        port=0,
        password="a b",
        extra={"timeout": "x", "verfy": 1, "allow_http": "maybe", "query_path": "q"},
    )
    assert set(found) == {
        "schema",
        "password",
        "extra.timeout",
        "extra.verfy",
        "extra.allow_http",
        "extra.query_path",
    }


def test_settings_compare_and_survive_pickling():
    settings = parse(extra={"proxies": {"https": "http://p:1"}})
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - our own bytes
    assert settings != parse()


@given(
    host=st.none()
    | st.text(max_size=30)
    | st.sampled_from([f"http://{HOST}", "[::1", f"a:{CODE}", f"{CODE}@b"]),
    schema=st.none() | st.text(max_size=8) | st.sampled_from(["http", "https"]),
    port=st.none() | st.integers(-1, 70_000),
    extra=st.none()
    | st.text(max_size=20)
    | st.dictionaries(
        st.sampled_from([*EXTRAS, "x"]),
        st.none() | st.booleans() | st.floats() | st.text(max_size=9) | st.lists(st.text(max_size=3)),
    ),
)
def test_any_connection_is_read_or_refused_and_never_leaks(host, schema, port, extra):
    values = {"host": host, "schema": schema, "port": port, "extra": extra}
    try:
        settings = parse(**values)
    except InvalidInput:
        problems(**values)
        return
    assert settings.app_code == CODE
    assert CODE not in repr(settings)
    assert settings.base_url.startswith(("https://", "http://"))
    if settings.base_url.startswith("http://"):
        assert isinstance(extra, dict)
        assert str(extra.get("allow_http")).strip().lower() == "true"
