# SPDX-License-Identifier: Apache-2.0
"""The codec against golden samples: files of status, headers and raw body, each with what it means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_bgrep.protocol import wire
from airflow_provider_bgrep.protocol.codes import ErrorKind, Operation, RetryDecision
from airflow_provider_bgrep.protocol.errors import CallError, InvalidInput
from airflow_provider_bgrep.protocol.models import ImageTask, Job

SAMPLES = Path(__file__).parent / "samples"
OPERATIONS = {"submit": Operation.SUBMIT, "query": Operation.QUERY}
ASKED = "asked"  # the key that a query of a sample asked for


class Headers(dict[str, str]):
    """A mapping whose ``get`` ignores case, as both drivers' are."""

    def get(self, name: str, default: Any = None) -> Any:
        return next((value for key, value in self.items() if key.lower() == name.lower()), default)


def response(status: int = 200, body: bytes = b"", **headers: str) -> wire.Response:
    return wire.Response(status, Headers({k.replace("_", "-"): v for k, v in headers.items()}), body)


def read(sample: Path) -> wire.Response:
    head, _, body = sample.read_bytes().partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = Headers(line.split(": ", 1) for line in lines)
    return wire.Response(int(status.split()[1]), headers, body)


def meaning(sample: Path) -> dict[str, Any]:
    expected: dict[str, Any] = json.loads(sample.with_suffix(".json").read_text("utf-8"))
    return expected


def decoded(operation: Operation, answer: wire.Response) -> Job:
    return wire.parse_job(
        operation,
        answer,
        wire.parse_envelope(operation, answer),
        ASKED if operation is Operation.QUERY else "",
    )


CASES = [
    pytest.param(sample, operation, id=f"{sample.stem}-{operation}")
    for sample in sorted(SAMPLES.glob("*.http"))
    for operation in OPERATIONS
    if operation in meaning(sample)
]


@pytest.mark.parametrize(("sample", "operation"), CASES)
def test_a_sample_means_what_stands_beside_it(sample, operation):
    expected = meaning(sample)[operation]
    if "job" in expected:
        _is_job(decoded(OPERATIONS[operation], read(sample)), expected["job"])
    else:
        with pytest.raises(CallError) as caught:
            decoded(OPERATIONS[operation], read(sample))
        _is_error(caught.value, expected["error"])


def _is_job(job: Job, expected: dict[str, Any]) -> None:
    seen = [{"status": t.status, "results": list(t.results), "message": t.message} for t in job.tasks]
    assert seen == expected.pop("tasks")
    assert [task.index for task in job.tasks] == list(range(len(seen)))
    if "echo" in expected:
        assert [dict(task.echo) for task in job.tasks] == expected.pop("echo")
    assert {name: getattr(job, name) for name in expected} == expected


def _is_error(error: CallError, expected: dict[str, Any]) -> None:
    assert expected.pop("message_holds", "") in error.message
    if expected.pop("short", False):
        assert len(error.message) <= 500
        assert len(error.request_id) <= 80
        assert "\n" not in error.message + error.request_id + error.code
    if "wait" in expected:
        assert error.rule.wait == expected.pop("wait")
    seen = {"kind": error.kind.value, "then": error.then.value}
    assert seen | {name: getattr(error, name) for name in expected if name not in seen} == expected


def test_no_sample_is_unused():
    used = {case.values[0].stem for case in CASES}
    there = {path.stem for path in SAMPLES.iterdir() if path.name != ".gitattributes"}
    assert there == used
    assert {path.suffix for path in SAMPLES.iterdir() if path.name != ".gitattributes"} == {".http", ".json"}
    for sample in SAMPLES.glob("*.json"):
        assert set(meaning(sample)) <= {"why", *OPERATIONS}, f"{sample.name} says something that is not read"


@pytest.mark.parametrize(("sample", "operation"), [case for case in CASES if case.values[1] == "query"])
def test_what_a_poll_reads_agrees_with_the_whole_job(sample, operation):
    answer = read(sample)
    try:
        payload = wire.parse_envelope(Operation.QUERY, answer)
    except CallError:
        return
    job = wire.parse_job(Operation.QUERY, answer, payload)
    statuses = wire.statuses(payload)
    assert len(statuses) == len(job.tasks)
    assert job.is_finished == (bool(statuses) and {"SUCCESS", "FAILED"}.issuperset(statuses))


def test_a_submit_with_an_unreadable_answer_is_never_resent():
    # Whatever the status says short of 429 and of plain refusals: nothing here may lead to a second bill.
    for status in (*range(200, 300), *range(500, 600)):
        for body in (b"", b"{}", b"<html>", b'{"success":true,"data":{}}', b'{"code":0,"success":true'):
            with pytest.raises(CallError) as caught:
                decoded(Operation.SUBMIT, response(status, body))
            assert caught.value.then.value == "unknown", (status, body)


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ([{"url": "https://results.example/a.png"}], wire.UNREADABLE),
        ({"0": "https://results.example/a.png"}, wire.UNREADABLE),
        ([["https://results.example/a.png"]], wire.UNREADABLE),
        ([{}, None], "FAILED"),
        ([" "], "FAILED"),
        (None, "FAILED"),
        (["https://results.example/a.png", {}], "SUCCESS"),
    ],
)
def test_results_in_another_form_are_no_failure(results, status):
    task = {"status": "success", "results": results}
    answer = response(200, json.dumps({"success": True, "data": {"task_list": [task]}}).encode())
    job = decoded(Operation.QUERY, answer)
    assert [one.status for one in job.tasks] == [status]
    assert job.is_finished is (status != wire.UNREADABLE)
    is_polled_on = wire.UNREADABLE in wire.statuses(wire.parse_envelope(Operation.QUERY, answer))
    assert is_polled_on is (status == wire.UNREADABLE)


# --- requests -------------------------------------------------------------------------------------

TASK = ImageTask(image="https://example.com/a.png", positive_prompt="雪山")


def test_the_documents_own_submit_comes_out_as_printed():
    task = ImageTask(
        image="https://img.alicdn.com/abc.png",
        strength=0.5,
        seed=0,
        negative_prompt="NSFW",
        guidance_scale=7.5,
        positive_prompt="蓝天白云",
        num_output=3,
        steps=50,
        mask="https://img.alicdn.com/abc.png",
    )
    assert json.loads(wire.submit_body([task])) == {
        "data": {
            "task_list": [
                {
                    "image": "https://img.alicdn.com/abc.png",
                    "strength": 0.5,
                    "seed": 0,
                    "negative_prompt": "NSFW",
                    "guidance_scale": 7.5,
                    "positive_prompt": "蓝天白云",
                    "num_output": 3,
                    "steps": 50,
                    "mask": "https://img.alicdn.com/abc.png",
                }
            ]
        }
    }


def test_what_has_no_value_is_left_out_and_never_null():
    (sent,) = json.loads(wire.submit_body([TASK]))["data"]["task_list"]
    assert sent.keys().isdisjoint({"mask", "negative_prompt", "seed", "id"})
    assert None not in sent.values()


def test_an_id_of_ones_own_is_never_sent():
    assert b"sku-7" not in wire.submit_body([ImageTask(**{**TASK.as_dict(), "id": "sku-7"})])


def test_chinese_goes_out_as_utf_8():
    assert "雪山".encode() in wire.submit_body([TASK])


def test_a_number_that_json_has_not_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        wire.submit_body([ImageTask(image="https://a/b", positive_prompt="x", strength=float("nan"))])


def test_a_request_too_large_for_the_gateway_is_not_sent():
    long_url = "https://example.com/" + "a" * 300_000
    tasks = [ImageTask(image=long_url, positive_prompt="x")] * 10
    with pytest.raises(InvalidInput) as raised:
        wire.submit_body(tasks)
    assert [problem.where for problem in raised.value.problems] == ["task_list"]


def test_a_query_asks_for_the_key_without_the_blanks_around_it():
    assert json.loads(wire.query_body(" k1\n")) == {"data": {"result_key": "k1"}}


@pytest.mark.parametrize("key", ["", "  ", None, 7, ["k"], b"k", "k\ud800"])
def test_a_key_that_is_none_is_refused_before_anything_is_sent(key):
    with pytest.raises(InvalidInput) as raised:
        wire.query_body(key)
    assert [problem.where for problem in raised.value.problems] == ["result_key"]


def test_the_headers_are_as_documented_without_a_timestamp():
    assert wire.request_headers("d1xx2a", "n-1") == {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Authorization": "APPCODE d1xx2a",
        "X-Ca-Nonce": "n-1",
    }


# --- texts ------------------------------------------------------------------------------------------

QUOTED = "half \ud800 https://a.b/c?d=e,f&Signature=canary\n" + "x" * 600


def _is_safe(text: str, longest: int) -> None:
    text.encode()
    assert text
    assert "canary" not in text
    assert "\n" not in text
    assert len(text) <= longest


@pytest.mark.parametrize("operation", OPERATIONS.values())
def test_the_texts_of_a_refusal_can_be_written_anywhere(operation):
    body = json.dumps({"success": False, "code": QUOTED, "message": QUOTED, "requestId": QUOTED}).encode()
    with pytest.raises(CallError) as raised:
        wire.parse_envelope(operation, response(400, body, X_Ca_Request_Id=QUOTED))
    _is_safe(raised.value.message, 500)
    for text in (raised.value.code, raised.value.request_id, raised.value.gateway_request_id):
        _is_safe(text, 80)


def test_a_code_that_is_no_text_is_still_a_code():
    with pytest.raises(CallError) as raised:
        wire.parse_envelope(Operation.SUBMIT, response(400, b'{"code": "\\ud800"}'))
    assert raised.value.code == "?"


def test_the_texts_of_a_job_can_be_written_anywhere():
    tasks = [{"status": "FAILED", "message": QUOTED}, {"status": QUOTED}]
    payload = {"success": True, "requestId": QUOTED, "data": {"result_key": "k", "task_list": tasks}}
    job = wire.parse_job(Operation.QUERY, response(X_Ca_Request_Id=QUOTED), payload)
    _is_safe(job.tasks[0].message, 500)
    for text in (job.tasks[1].status, job.request_id, job.gateway_request_id):
        _is_safe(text, 80)


# --- whose answer it is -----------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["k1", " k1 ", "K1", None, ""])
def test_an_answer_about_the_job_that_was_asked_for_is_taken(key):
    answer = response(200, _about(key))
    wire.check_result_key(answer, json.loads(answer.body), "k1")


def test_an_answer_about_another_job_is_queried_again():
    answer = response(200, _about("k2"))
    with pytest.raises(CallError) as raised:
        wire.check_result_key(answer, json.loads(answer.body), "k1")
    assert raised.value.kind is ErrorKind.SERVICE
    assert raised.value.then is RetryDecision.SEND_AGAIN
    assert "job k2, not about job k1" in str(raised.value)


def test_a_key_that_cannot_be_encoded_is_that_of_another_job():
    answer = response(200, _about("k1\ud800"))
    with pytest.raises(CallError) as raised:
        wire.check_result_key(answer, json.loads(answer.body), "k1")
    assert raised.value.then is RetryDecision.SEND_AGAIN
    str(raised.value).encode()


def _about(key: Any) -> bytes:
    return json.dumps({"code": 0, "success": True, "data": {"result_key": key, "task_list": []}}).encode()
