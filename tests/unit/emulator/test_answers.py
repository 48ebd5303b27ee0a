# SPDX-License-Identifier: Apache-2.0
"""Answers as the service, the gateway and the storage write them."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from airflow_provider_bgrep.emulator import answers
from airflow_provider_bgrep.emulator.answers import Answer
from airflow_provider_bgrep.protocol.codes import GATEWAY_CODES, GATEWAY_TEXTS, SERVICE_CODES


def test_a_success_is_the_documents_envelope():
    answer = answers.success(b'{"result_key": "k"}')
    body = json.loads(answer.body)
    assert body == {
        "code": 0,
        "data": {"result_key": "k"},
        "message": "success",
        "requestId": body["requestId"],
        "severity": "info",
        "success": True,
    }
    assert (answer.status, answer.refused, answer.delivery) == (200, False, "send")
    assert answers.success(b"{}").headers["X-Ca-Request-Id"] != answer.headers["X-Ca-Request-Id"]


@pytest.mark.parametrize("code", SERVICE_CODES)
def test_the_service_refuses_with_its_tables_words(code):
    answer = answers.service_error(code, "steps is 7")
    body = json.loads(answer.body)
    assert (body["code"], body["message"], body["success"]) == (code, SERVICE_CODES[code].meaning, False)
    assert (answer.status, answer.refused) == (SERVICE_CODES[code].http_status, True)
    assert answer.headers["X-Emulator-Detail"] == "steps is 7"
    assert "steps" not in answer.body.decode()


@pytest.mark.parametrize("code", GATEWAY_CODES)
def test_the_gateway_refuses_in_headers_alone(code):
    answer = answers.gateway_error(code)
    assert (answer.status, answer.body, answer.refused) == (int(code[1:4]), b"", True)
    assert answer.headers["X-Ca-Error-Code"] == code
    assert answer.headers["X-Ca-Error-Message"]
    assert "X-Emulator-Detail" not in answer.headers


@pytest.mark.parametrize("code", GATEWAY_CODES)
def test_an_older_gateway_has_its_status_for_a_code(code):
    answer = answers.gateway_error(code, texts=True)
    assert answer.headers["X-Ca-Error-Code"] == str(answer.status)
    assert code not in answer.headers.values()


@pytest.mark.parametrize("rule", GATEWAY_TEXTS, ids=lambda rule: rule.code)
def test_a_text_has_the_status_of_its_row(rule):
    for text in (rule.code, rule.code.upper()):
        answer = answers.any_error(text)
        assert (answer.status, answer.headers["X-Ca-Error-Message"]) == (rule.http_status, rule.code)


@pytest.mark.parametrize(("code", "status"), [("T429ZZ", 429), ("X599ZZ", 599), ("23599999", 400)])
def test_a_code_that_no_table_has_is_answered_as_well(code, status):
    answer = answers.any_error(code)
    assert answer.status == status
    assert code in (answer.headers.get("X-Ca-Error-Code"), json.loads(answer.body or b"{}").get("code"))


@pytest.mark.parametrize(
    "code", ["", "T429", "T399ZZ", "T600ZZ", "TOOBIG", "2350000", "235000000", "No Such Text"]
)
def test_any_other_text_is_no_code(code):
    with pytest.raises(ValueError) as caught:
        answers.any_error(code)
    assert repr(code) in str(caught.value)


def test_details_are_one_line_of_printable_ascii():
    detail = answers.service_error("23500013", "雪\r\nX-Evil: 1" + "x" * 1000).headers["X-Emulator-Detail"]
    assert detail.isascii()
    assert detail.isprintable()
    assert len(detail) == 500


def test_storage_refuses_with_xml():
    answer = answers.storage_error(403, "AccessDenied", "a < b & c", 0.0, 60.0)
    found = {one.tag: one.text for one in ElementTree.fromstring(answer.body)}  # noqa: S314 (our own)
    assert (found["Code"], found["Message"]) == ("AccessDenied", "a < b & c")
    assert (found["ServerTime"], found["Expires"]) == ("1970-01-01T00:00:00.000Z", "1970-01-01T00:01:00.000Z")
    assert "Expires" not in answers.storage_error(404, "NoSuchKey", "gone", 0.0).body.decode()


@pytest.mark.parametrize(("status", "refused"), [(200, False), (404, True), (502, True)])
def test_a_page_is_refused_by_its_status(status, refused):
    answer = answers.html(status)
    assert (answer.status, answer.refused, answer.headers["Content-Type"]) == (status, refused, answers.HTML)


def test_more_headers_leave_the_answer_as_it_is():
    answer = Answer(200, b"x", {"A": "1", "B": "2"})
    assert answer.with_headers({"B": "3"}) == Answer(200, b"x", {"A": "1", "B": "3"})
    assert answer.headers == {"A": "1", "B": "2"}


def test_control_answers_are_json_of_any_text():
    answer = answers.as_json({"a": "雪"}, 404)
    assert (answer.status, json.loads(answer.body)) == (404, {"a": "雪"})
