# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import http.client
import json
import uuid
from pathlib import Path

import pytest
import requests

from airflow_provider_bgrep.emulator.causes import CAUSES, as_rst
from airflow_provider_bgrep.emulator.faults import ANSWER_FAULTS, JOB_FAULTS, RESULT_FAULTS
from airflow_provider_bgrep.emulator.settings import BACKENDS, RATE_SCOPES, SUBSCRIPTIONS
from airflow_provider_bgrep.protocol.codes import GATEWAY_CODES, GATEWAY_TEXTS, SERVICE_CODES
from airflow_provider_bgrep.protocol.limits import (
    MAX_HEADER_BYTES,
    MAX_REQUEST_BYTES,
    QUERY_PATH,
    SUBMIT_PATH,
)

TEXTS = {rule.code: rule for rule in GATEWAY_TEXTS}
ROWS = {**SERVICE_CODES, **GATEWAY_CODES, **TEXTS}


def raw(api, *lines, body=b"{}", length=None):
    """A request written by hand, for what no client would send."""
    connection = http.client.HTTPConnection(api.url.removeprefix("http://"), timeout=10)
    connection.putrequest("POST", lines[0], skip_accept_encoding=True)
    for name, value in lines[1:]:
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(len(body) if length is None else length))
    connection.endheaders(body)
    answer = connection.getresponse()
    return answer, answer.read()


def once(api, how="query", **others):
    return api.query("0" * 32, **others) if how == "query" else api.submit(**others)


def twice(api, **others):
    once(api, **others)
    return once(api, **others)


def double_nonce(api, task, emulator):
    headers = list(api.headers().items())
    answer, body = raw(api, SUBMIT_PATH, *headers, ("X-Ca-Nonce", "second"))
    return as_response(answer, body)


def badly_packed(api, task, emulator):
    answer, body = raw(api, SUBMIT_PATH, *api.headers(Content_Encoding="gzip").items(), body=b"no gzip")
    return as_response(answer, body)


def as_response(answer, body):
    response = requests.Response()
    response.status_code, response._content = answer.status, body
    response.headers.update(answer.getheaders())
    return response


def job_first(api, task, emulator):
    api.submit(task())
    return api.submit(task())


def checked(name, field="image"):
    def provoke(api, task, emulator):
        emulator.configure(fetch=True)
        return api.submit(task(**{field: emulator.bad_image(name)}))

    return provoke


CALLS = {
    "23500001": lambda api, task, emulator: once(api, Authorization="APPCODE stranger"),
    "23500002": lambda api, task, emulator: api.post("/api/v1/bg-rep/cancel", json={}),
    "23500003": lambda api, task, emulator: api.submit(task()),
    "23500004": lambda api, task, emulator: api.submit(task()),
    "23500005": checked("refused"),
    "23500006": checked("missing"),
    "23500007": checked("too-small"),
    "23500009": lambda api, task, emulator: api.submit(task(steps=None)),
    "23500012": lambda api, task, emulator: api.post(SUBMIT_PATH, data=b""),
    "23500013": lambda api, task, emulator: api.submit(task(steps=1)),
    "23500014": lambda api, task, emulator: api.post("/api/v1/bg-remove/submit", json={}),
    "A400MA": lambda api, task, emulator: once(api, Authorization=None),
    "A400AC": lambda api, task, emulator: once(api, Authorization="Basic abc"),
    "A401AC": lambda api, task, emulator: once(api, Authorization="APPCODE nobody"),
    "A400IK": lambda api, task, emulator: once(api, Authorization=None, X_Ca_Key="1"),
    "A401OT": lambda api, task, emulator: once(api, Authorization="Bearer abc"),
    "A403EP": lambda api, task, emulator: once(api, Authorization="APPCODE old"),
    "A403PR": lambda api, task, emulator: once(api, Authorization="APPCODE other"),
    "S403NU": lambda api, task, emulator: twice(api, X_Ca_Nonce="same"),
    "S403TE": lambda api, task, emulator: once(api, X_Ca_Timestamp="1700000000000"),
    "I400NC": lambda api, task, emulator: once(api, X_Ca_Nonce=None),
    "I404NF": lambda api, task, emulator: api.post("/api/v2/bg-rep/submit", json={}),
    "I404NR": lambda api, task, emulator: once(api, X_Ca_Stage="TEST"),
    "I400SG": lambda api, task, emulator: once(api, X_Ca_Stage="DREAM"),
    "I405UM": lambda api, task, emulator: requests.put(
        api.url + SUBMIT_PATH, headers=api.headers(), timeout=9
    ),
    "I400HD": double_nonce,
    "I400BD": badly_packed,
    "I400MH": lambda api, task, emulator: api.post(SUBMIT_PATH, data=b"{}", Content_Type=None),
    "I400CT": lambda api, task, emulator: once(api, Content_Type="text/plain"),
    "I400PA": lambda api, task, emulator: api.post("/api/v1//bg-rep/submit", json={}),
    "I400RU": lambda api, task, emulator: as_response(*raw(api, QUERY_PATH + "?%zz", *api.headers().items())),
    "I413RL": lambda api, task, emulator: api.post(SUBMIT_PATH, data=b" " * (MAX_REQUEST_BYTES + 1)),
    "I413UL": lambda api, task, emulator: once(api, X_Long="x" * MAX_HEADER_BYTES),
    "D503CB": lambda api, task, emulator: twice(api),
    "Expiry of Authorization": lambda api, task, emulator: once(api, Authorization="APPCODE old"),
    "Unauthorized": lambda api, task, emulator: once(api, Authorization=None),
    "Invalid AppCode": lambda api, task, emulator: once(api, Authorization="APPCODE nobody"),
    "Nonce Used": lambda api, task, emulator: twice(api, X_Ca_Nonce="same"),
    **{code: lambda api, task, emulator: twice(api) for code, _ in RATE_SCOPES.values()},
    **{text: lambda api, task, emulator: twice(api) for _, text in RATE_SCOPES.values()},
}


def assert_answers(answer, code):
    rule = ROWS[code]
    assert answer.status_code == rule.http_status
    assert answer.headers["X-Ca-Request-Id"]
    if code in SERVICE_CODES:
        assert "X-Ca-Error-Code" not in answer.headers
        body = answer.json()
        assert (body["code"], body["message"], body["success"]) == (code, rule.meaning, False)
        return
    assert answer.content == b""
    assert answer.headers["Content-Type"] == "application/octet-stream"
    if code in TEXTS:
        assert answer.headers["X-Ca-Error-Message"] == code
        assert len(answer.headers["X-Ca-Error-Code"]) != 6
    else:
        assert answer.headers["X-Ca-Error-Code"] == code
        assert answer.headers["X-Ca-Error-Message"]


def test_the_table_of_causes_has_exactly_the_known_codes():
    assert list(CAUSES) == list(ROWS)


def test_the_docs_have_the_table_as_it_is():
    page = (Path(__file__).parents[3] / "docs" / "emulator.rst").read_text()
    table = page.partition(".. causes begin\n\n")[2].partition("\n.. causes end")[0]
    assert table == as_rst()


def test_the_docs_name_every_fault_and_its_parameters():
    page = (Path(__file__).parents[3] / "docs" / "emulator.rst").read_text()
    section = page.partition("\nFaults\n")[2].partition("How each code comes about")[0]
    for name in {**ANSWER_FAULTS, **JOB_FAULTS, **RESULT_FAULTS}:
        assert f"* - ``{name}``" in section


@pytest.mark.parametrize("code", [code for code, cause in CAUSES.items() if not cause.by_fault])
def test_a_code_comes_about_by_its_cause(code, api, task, emulator):
    emulator.configure(**CAUSES[code].configure)
    call = CALLS.get(code, lambda api, task, emulator: once(api))
    assert_answers(call(api, task, emulator), code)
    assert emulator.counters.refused >= 1
    assert emulator.counters.images in (0, 1)


@pytest.mark.parametrize("code", ROWS)
@pytest.mark.parametrize("operation", ["submit", "query"])
def test_any_code_can_be_injected_once_and_is_then_consumed(code, operation, api, task, emulator):
    fault = emulator.inject("code", operation=operation, code=code)
    key = "0" * 32 if operation == "submit" else api.job(task())
    assert (fault.consumed, fault.exhausted) == (0, False) if operation == "query" else True
    answer = api.submit(task()) if operation == "submit" else api.query(key)
    assert_answers(answer, code)
    assert (fault.consumed, fault.exhausted) == (1, True)
    again = api.submit(task()) if operation == "submit" else api.query(key)
    assert again.status_code == 200
    assert emulator.counters.submits == 1


def test_states_of_the_account_have_codes_that_the_tables_know():
    named = [*SUBSCRIPTIONS.values(), *BACKENDS.values(), *(code for code, _ in RATE_SCOPES.values())]
    assert {code for code in named if code} <= set(GATEWAY_CODES)
    assert {text for _, text in RATE_SCOPES.values()} <= set(TEXTS)


def test_a_code_that_no_table_has_can_be_put_in_place_too(api, task, emulator):
    emulator.inject("code", code="T429ZZ", retry_after=7)
    answer = api.submit(task())
    assert (answer.status_code, answer.headers["X-Ca-Error-Code"]) == (429, "T429ZZ")
    assert answer.headers["Retry-After"] == "7"


def test_an_open_breaker_closes_after_ninety_seconds(api, emulator):
    emulator.configure(**CAUSES["D503CB"].configure)
    twice(api)
    emulator.configure(backend_seconds=0, backend_timeout=None)
    emulator.advance(89)
    assert once(api).headers["X-Ca-Error-Code"] == "D503CB"
    emulator.advance(2)
    assert once(api).json()["code"] == "23500008"


def test_a_call_that_timed_out_at_the_gateway_is_billed(api, task, emulator):
    emulator.configure(backend_seconds=0.05, backend_timeout=0.01)
    assert api.submit(task(num_output=3)).headers["X-Ca-Error-Code"] == "D504TO"
    assert (emulator.counters.submits, emulator.counters.images) == (1, 3)


def test_the_service_without_a_gateway_checks_the_appcode_itself(api, task, emulator):
    emulator.configure(gateway="none")
    assert_answers(api.submit(task(), Authorization="APPCODE nobody"), "23500001")
    assert_answers(api.submit(task(), Authorization=None), "23500001")
    assert api.submit(task(), X_Ca_Nonce=None).status_code == 200


def test_a_nonce_is_good_again_after_fifteen_minutes(api, emulator):
    once(api, X_Ca_Nonce="one")
    emulator.advance(899)
    assert once(api, X_Ca_Nonce="one").headers["X-Ca-Error-Code"] == "S403NU"
    emulator.advance(2)
    assert once(api, X_Ca_Nonce="one").json()["code"] == "23500008"


def test_a_refused_call_uses_its_nonce_up_all_the_same(api, emulator):
    emulator.inject("throttle", operation="query")
    assert once(api, X_Ca_Nonce="one").status_code == 429
    assert once(api, X_Ca_Nonce="one").headers["X-Ca-Error-Code"] == "S403NU"


def test_rate_and_subscription_let_through_what_they_allow(api, emulator):
    emulator.configure(subscription_calls=2)
    assert [once(api).status_code for _ in range(3)] == [400, 400, 403]
    emulator.configure(subscription_calls=None, rate=2)
    assert [once(api).status_code for _ in range(3)] == [400, 400, 429]
    emulator.advance(1)
    assert once(api).status_code == 400


@pytest.mark.parametrize(
    "value", ["APPCODE  x", "APPCODE", "APPCODE ", "appcode x", "APPCODE\tx", "APPCODE x y", "x"]
)
def test_an_authorization_of_another_form_is_refused(value, api, emulator):
    emulator.configure(app_codes={"x": "active"})
    headers = [(name, value if name == "Authorization" else old) for name, old in api.headers().items()]
    answer, body = raw(api, SUBMIT_PATH, *headers)
    assert (answer.getheader("X-Ca-Error-Code"), body) == ("A400AC", b"")


def test_a_chunked_body_over_the_limit_is_refused_too(api):
    def chunks():
        for _ in range(40):
            yield b" " * 65536

    headers = api.headers(X_Ca_Nonce=uuid.uuid4().hex)
    answer = requests.post(api.url + SUBMIT_PATH, data=chunks(), headers=headers, timeout=20)
    assert answer.headers["X-Ca-Error-Code"] == "I413RL"


def test_the_content_type_may_have_a_charset(api):
    assert once(api, Content_Type="application/json; charset=utf-8").json()["code"] == "23500008"


def test_the_detail_of_a_refusal_is_in_a_header_not_in_the_body(api, task):
    answer = api.submit(task(), task(steps=51))
    assert answer.headers["X-Emulator-Detail"] == "task 1: steps is 51, [15, 50] is allowed"
    assert set(json.loads(answer.content)) == {"code", "message", "requestId", "severity", "success"}
