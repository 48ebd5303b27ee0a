# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import threading
import time

import pytest
import requests

from airflow_provider_bgrep.emulator.faults import ANSWER_FAULTS, JOB_FAULTS, RESULT_FAULTS
from airflow_provider_bgrep.testing import EmulatorClient

BROKEN = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
PARAMS = {"code": {"code": "23500000"}, "hang": {"seconds": 0.05}}


def outcome(call):
    """Status and body, or the name of what broke."""
    try:
        answer = call()
    except BROKEN as error:
        return type(error).__name__
    return answer.status_code, answer.content


@pytest.mark.parametrize("name", ANSWER_FAULTS)
@pytest.mark.parametrize("accepted", [True, False])
def test_a_fault_strikes_a_submit_before_or_after_it_is_taken(name, accepted, api, task, emulator):
    params = {**PARAMS.get(name, {}), "accepted": accepted}
    fault = emulator.inject(name, **params)
    first = outcome(lambda: api.submit(task(num_output=2)))
    assert fault.exhausted
    counters = emulator.counters
    assert (counters.submits, counters.images) == ((1, 2) if accepted else (0, 0))
    assert counters.requests == 1
    assert len(emulator.jobs) == accepted
    assert (
        not isinstance(first, tuple)
        or first[0] != 200
        or b"result_key" not in first[1]
        or name == "truncated"
    )
    assert api.submit(task()).status_code == 200


@pytest.mark.parametrize("name", ANSWER_FAULTS)
def test_a_fault_strikes_the_given_number_of_times(name, api, emulator, task):
    key = api.job(task())
    fault = emulator.inject(name, operation="query", times=2, **PARAMS.get(name, {}))
    for _ in range(3):
        outcome(lambda: api.query(key))
    assert (fault.consumed, fault.exhausted) == (2, True)
    assert api.query(key).status_code == 200


def test_a_reset_breaks_the_connection(api, emulator, task):
    emulator.inject("reset")
    with pytest.raises(requests.ConnectionError, match=r"reset|104|10054"):
        api.submit(task())


def test_a_hang_answers_nothing_for_its_time(api, emulator, task):
    emulator.inject("hang", seconds=0.4)
    start = time.monotonic()
    assert outcome(lambda: api.submit(task())) == "ConnectionError"
    assert 0.4 <= time.monotonic() - start < 5


def test_others_are_answered_while_one_hangs(api, emulator, task):
    emulator.inject("hang", seconds=5)
    hanging = threading.Thread(target=lambda: outcome(lambda: api.submit(task())), daemon=True)
    hanging.start()
    while not emulator.counters.requests:
        time.sleep(0.01)
    start = time.monotonic()
    assert api.submit(task()).status_code == 200
    assert time.monotonic() - start < 2


def test_a_status_comes_with_a_page_as_a_proxy_sends_it(api, emulator, task):
    emulator.inject("status", status=502, retry_after=3)
    answer = api.submit(task())
    assert (answer.status_code, answer.headers["Retry-After"]) == (502, "3")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "X-Ca-Error-Code" not in answer.headers


def test_a_truncated_answer_ends_in_its_body_or_in_its_json(api, emulator, task):
    emulator.inject("truncated")
    assert outcome(lambda: api.submit(task())) in ("ChunkedEncodingError", "ConnectionError")
    emulator.inject("truncated", how="json")
    answer = api.submit(task())
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.content)
    assert emulator.counters.submits == 2


def test_any_body_status_and_headers_can_be_answered(api, emulator, task):
    emulator.inject("body", body=b"\xff\x00", status=203, headers={"X-Quirk": "yes"})
    answer = api.submit(task())
    assert (answer.status_code, answer.content, answer.headers["X-Quirk"]) == (203, b"\xff\x00", "yes")


def test_an_accepted_fault_is_not_consumed_by_a_refused_submit(api, emulator, task):
    fault = emulator.inject("reset", accepted=True)
    assert api.submit(task(steps=1)).json()["code"] == "23500013"
    assert fault.consumed == 0
    assert outcome(lambda: api.submit(task())) == "ConnectionError"
    assert fault.exhausted


def test_a_call_refused_by_the_gateway_consumes_no_fault(api, emulator, task):
    fault = emulator.inject("reset", operation="any")
    assert api.submit(task(), X_Ca_Nonce=None).status_code == 400
    assert fault.consumed == 0


def test_faults_of_one_operation_leave_the_other_alone(api, emulator, task):
    fault = emulator.inject("throttle", operation="query")
    key = api.job(task())
    assert fault.consumed == 0
    assert api.query(key).status_code == 429
    assert fault.exhausted


def test_two_faults_are_met_in_their_order(api, emulator, task):
    emulator.inject("code", code="T429UR")
    emulator.inject("code", code="23500000")
    assert [api.submit(task()).status_code for _ in range(3)] == [429, 500, 200]


def test_an_image_task_fails_with_its_message(api, emulator, task):
    emulator.inject("fail_task", index=1, message="no luck")
    key = api.job(task(), task(), task())
    tasks = api.query(key).json()["data"]["task_list"]
    assert [one["status"] for one in tasks] == ["SUCCESS", "FAILED", "SUCCESS"]
    assert (tasks[1]["message"], tasks[1]["results"]) == ("no luck", [])
    assert emulator.counters.images == 3


def test_a_success_can_lack_results_or_have_too_few(api, emulator, task):
    emulator.inject("no_results", index=0)
    emulator.inject("partial", index=1, count=3)
    key = api.job(task(num_output=4), task(num_output=4), task(num_output=4))
    tasks = api.query(key).json()["data"]["task_list"]
    assert [len(one["results"]) for one in tasks] == [0, 3, 4]
    assert {one["status"] for one in tasks} == {"SUCCESS"}


def test_a_late_job_is_late_by_polls_and_by_seconds(api, emulator, task):
    emulator.inject("late", polls=2)
    key = api.job(task())
    assert [api.states(key)[0] for _ in range(3)] == ["WAITING", "RUNNING", "SUCCESS"]
    emulator.inject("late", seconds=100)
    key = api.job(task())
    assert api.states(key) == ["RUNNING"]
    emulator.advance(101)
    assert api.states(key) == ["SUCCESS"]


def test_a_result_expires_before_its_time_once(api, emulator, task):
    (url,) = api.results(api.job(task()))
    fault = emulator.inject("expired")
    answer = requests.get(url, timeout=20)
    assert (answer.status_code, answer.headers["Content-Type"]) == (403, "application/xml")
    assert b"<Message>Request has expired.</Message>" in answer.content
    assert fault.exhausted
    assert requests.head(url, timeout=20).status_code == 200


def test_a_result_can_be_larger_than_it_should_be(api, emulator, task):
    (url,) = api.results(api.job(task()))
    emulator.inject("oversized", bytes=20_000_000)
    assert len(requests.get(url, timeout=20).content) == 20_000_001


@pytest.mark.parametrize("name", ["status", "reset", "truncated", "html", "empty"])
def test_downloads_have_faults_too(name, api, emulator, task):
    (url,) = api.results(api.job(task()))
    fault = emulator.inject(name, operation="result")
    broken = outcome(lambda: requests.get(url, timeout=20))
    assert fault.exhausted
    assert not isinstance(broken, tuple) or not broken[1].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("thunder", {}, "unknown fault 'thunder'"),
        ("reset", {"operation": "delete"}, "unknown operation 'delete'"),
        ("reset", {"seconds": 3}, r"has no \['seconds'\]"),
        ("reset", {"times": 0}, "positive integer"),
        ("code", {"code": "no code"}, "neither a code of the service"),
        ("code", {}, "neither a code of the service"),
    ],
)
def test_a_wrong_fault_is_refused_in_the_process_and_over_http(name, params, message, emulator):
    for controls in (emulator, EmulatorClient(emulator.url)):
        with pytest.raises(ValueError, match=message):
            controls.inject(name, **params)


def test_faults_are_put_in_place_over_http_too(api, emulator, task):
    other = EmulatorClient(emulator.url)
    fault = other.inject("body", body=b"\x00raw")
    assert api.submit(task()).content == b"\x00raw"
    assert (fault.consumed, fault.exhausted) == (1, True)
    other.inject("late", polls=1)
    other.reset()
    assert api.states(api.job(task())) == ["SUCCESS"]


def test_every_fault_has_words_for_the_docs():
    assert all({**ANSWER_FAULTS, **JOB_FAULTS, **RESULT_FAULTS}.values())


# --- answers in another form ----------------------------------------------------------------------


def answered(api, key):
    data = api.query(key).json()["data"]
    return data["result_key"], data["task_list"]


@pytest.mark.parametrize(("order", "expected"), [(None, [2, 1, 0]), ([1, 2, 0], [1, 2, 0]), ([2, 0], [2, 0])])
def test_image_tasks_are_answered_in_another_order(order, expected, api, emulator, task):
    fault = emulator.inject("order", order=order)
    tasks = [task(seed=n) for n in range(3)]
    job = api.submit(*tasks).json()["data"]
    assert fault.exhausted
    assert [one["seed"] for one in job["task_list"]] == expected
    assert [one["seed"] for one in answered(api, job["result_key"])[1]] == expected
    assert [one["seed"] for one in answered(api, api.job(*tasks))[1]] == [0, 1, 2]


@pytest.mark.parametrize(
    ("form", "echo"),
    [
        ("text", {"guidance_scale": "7.1", "seed": "5", "positive_prompt": " snow\n"}),
        ("float32", {"guidance_scale": 7.099999904632568, "seed": 5, "positive_prompt": "snow"}),
        ("image", {"guidance_scale": None, "seed": None, "positive_prompt": None}),
        ("none", {"guidance_scale": None, "seed": None, "positive_prompt": None}),
    ],
)
def test_fields_are_echoed_in_another_form(form, echo, api, emulator, task):
    fault = emulator.inject("echo", form=form, index=1)
    sent = task(guidance_scale=7.1, seed=5, positive_prompt="snow")
    first, second = answered(api, api.job(sent, sent))[1]
    assert fault.exhausted
    assert {name: second.get(name) for name in echo} == echo
    assert ("image" in second) is (form != "none")
    assert (first["seed"], second["status"], len(second["results"])) == (5, "SUCCESS", 1)


def test_a_query_is_answered_for_another_job(api, emulator, task):
    fault = emulator.inject("other_key")
    key = api.job(task())
    other, _ = answered(api, key)
    assert fault.exhausted
    assert other != key
    assert answered(api, key)[0] == other
    key = api.job(task())
    assert answered(api, key)[0] == key


def test_a_refusal_can_name_the_accepted_job(api, emulator, task):
    emulator.inject("code", code="23500004", accepted=True, names_key=True)
    answer = api.submit(task(num_output=2))
    key = answer.json()["data"]["result_key"]
    assert (answer.status_code, answer.json()["code"]) == (403, "23500004")
    assert api.states(key) == ["SUCCESS"]
    assert emulator.counters.images == 2


@pytest.mark.parametrize("accepted", [True, False])
def test_a_refusal_of_the_gateway_can_name_a_key_too(accepted, api, emulator, task):
    emulator.inject("code", code="T429UR", accepted=accepted, names_key=True)
    key = api.submit(task()).json()["data"]["result_key"]
    assert api.query(key).status_code == (200 if accepted else 400)


@pytest.mark.parametrize(
    ("status", "seen"),
    [("WAITING", ["WAITING", "SUCCESS"]), ("LOST", ["LOST", "SUCCESS"]), (None, ["SUCCESS"])],
)
def test_an_image_task_may_never_end(status, seen, api, emulator, task):
    emulator.inject("never_ends", index=0, status=status)
    key = api.job(task(), task())
    emulator.advance(86_400)
    assert [api.states(key) for _ in range(2)] == [seen, seen]


def test_results_may_be_named_late(api, emulator, task):
    emulator.inject("late_results", index=1, count=1, answers=2)
    key = api.job(task(num_output=2), task(num_output=2))
    assert [len(api.results(key)) for _ in range(4)] == [3, 3, 4, 4]
    assert api.states(key) == ["SUCCESS", "SUCCESS"]


def test_a_result_may_be_half_a_file_however_often_it_is_fetched(api, emulator, task):
    emulator.inject("undecodable", index=0, output=1)
    urls = api.results(api.job(task(num_output=2)))
    whole, half, again = (requests.get(url, timeout=20).content for url in (urls[0], urls[1], urls[1]))
    assert half == again
    assert whole.endswith(b"IEND\xaeB`\x82")
    assert not half.endswith(b"IEND\xaeB`\x82")


def test_a_job_may_be_unknown_at_first(api, emulator, task):
    emulator.inject("unknown_job", answers=2)
    key, other = api.job(task()), api.job(task())
    assert [api.query(key).status_code for _ in range(3)] == [400, 400, 200]
    assert api.query(other).status_code == 200


@pytest.mark.parametrize("status", [403, 404])
def test_results_may_be_refused_for_a_time_under_fresh_urls_too(status, api, emulator, task):
    fault = emulator.inject("refused", status=status, seconds=60)
    key = api.job(task())
    first = [requests.get(api.results(key)[0], timeout=20).status_code for _ in range(2)]
    emulator.advance(61)
    assert (first, fault.exhausted) == ([status, status], False)
    assert requests.get(api.results(key)[0], timeout=20).status_code == 200
    assert fault.exhausted


def test_a_download_may_be_refused_as_often_as_was_asked(api, emulator, task):
    emulator.inject("refused", status=404, times=2)
    (url,) = api.results(api.job(task()))
    assert [requests.get(url, timeout=20).status_code for _ in range(3)] == [404, 404, 200]


def test_what_the_faults_of_a_job_left_survives_a_restart(tmp_path, speak):
    from airflow_provider_bgrep.testing import Emulator

    def started():
        return Emulator(state_file=tmp_path / "state", fetch=False)

    with started() as emulator:
        emulator.inject("never_ends", index=0, status="STUCK")
        emulator.inject("undecodable", index=1, output=0)
        emulator.inject("unknown_job", answers=5)
        key = speak(emulator).job(emulator.image_task(), emulator.image_task())
    with started() as emulator:
        assert speak(emulator).query(key).status_code == 400
