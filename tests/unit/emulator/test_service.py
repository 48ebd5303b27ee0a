# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re

import pytest

from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS, MAX_TASKS, QUERY_PATH, SUBMIT_PATH

REQUIRED = [field.name for field in IMAGE_TASK_FIELDS.values() if field.required]
NUMBERS = [field for field in IMAGE_TASK_FIELDS.values() if field.minimum is not None]


def code(answer):
    return answer.json()["code"]


def test_a_submit_is_answered_as_the_document_shows(api, task):
    sent = task(negative_prompt="NSFW", positive_prompt="蓝天白云", num_output=3)
    answer = api.submit(sent)
    body = answer.json()
    assert answer.status_code == 200
    assert (body["code"], body["message"], body["severity"], body["success"]) == (0, "success", "info", True)
    assert re.fullmatch(r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}", body["requestId"])
    assert re.fullmatch(r"[0-9a-f]{32}", body["data"]["result_key"])
    assert body["data"]["task_list"] == [{**sent, "status": "WAITING"}]
    assert answer.headers["X-Ca-Request-Id"] != body["requestId"]


def test_a_query_is_answered_as_the_document_shows(api, task):
    sent = task(num_output=3)
    key = api.job(sent)
    data = api.query(key).json()["data"]
    (echo,) = data["task_list"]
    results = echo.pop("results")
    assert data["result_key"] == key
    assert echo == {**sent, "status": "SUCCESS", "message": "success"}
    assert len(results) == len(set(results)) == 3
    assert all(url.startswith(api.url) for url in results)


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", ["left out", None, ""])
def test_a_required_field_that_is_missing_refuses_the_submit(name, value, api, task):
    broken = {**task(), name: value}
    if value == "left out":
        del broken[name]
    assert code(api.submit(task(), broken)) == "23500009"


@pytest.mark.parametrize("field", NUMBERS, ids=lambda field: field.name)
def test_a_number_is_taken_up_to_its_limits_and_not_beyond(field, api, task):
    step = 1 if field.kind == "integer" else 1e-6
    lowest = field.minimum + (step if field.exclusive_minimum else 0)
    inside = [lowest, field.maximum]
    outside = [lowest - step, field.maximum + step]
    assert [api.submit(task(**{field.name: value})).status_code for value in inside] == [200, 200]
    assert [code(api.submit(task(**{field.name: value}))) for value in outside] == ["23500013", "23500013"]


@pytest.mark.parametrize("name", ["positive_prompt", "negative_prompt"])
@pytest.mark.parametrize("letter", ["a", "云", "😀"])
def test_a_prompt_is_counted_in_characters(name, letter, api, task):
    most = int(IMAGE_TASK_FIELDS[name].maximum)
    assert api.submit(task(**{name: letter * most})).status_code == 200
    assert code(api.submit(task(**{name: letter * (most + 1)}))) == "23500013"


@pytest.mark.parametrize("seed", [0, -1, 2**63, 7])
def test_any_integer_is_a_seed(seed, api, task):
    assert api.submit(task(seed=seed)).json()["data"]["task_list"][0]["seed"] == seed


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": 1.0},
        {"seed": "1"},
        {"seed": True},
        {"steps": 20.5},
        {"num_output": "2"},
        {"strength": True},
        {"strength": "0.5"},
        {"positive_prompt": ["snow"]},
        {"image": 7},
        {"id": "sku-1"},
    ],
    ids=str,
)
def test_a_wrong_type_or_an_unknown_field_refuses_the_submit(wrong, api, task):
    assert code(api.submit({**task(), **wrong})) == "23500013"


@pytest.mark.parametrize("name", ["mask", "negative_prompt", "seed"])
def test_an_optional_field_may_be_left_out_and_may_not_be_null(name, api, task):
    whole = task(negative_prompt="people")
    assert code(api.submit({**whole, name: None})) == "23500013"
    del whole[name]
    echo = api.submit(whole).json()["data"]["task_list"][0]
    assert name not in echo


@pytest.mark.parametrize("url", ["ftp://a/b.png", "a.png", "http://", "https:///x.png", "http://a b/c.png"])
@pytest.mark.parametrize("name", ["image", "mask"])
def test_an_invalid_url_is_refused(url, name, api, task):
    assert code(api.submit(task(**{name: url}))) == "23500006"


def test_one_to_ten_image_tasks_are_taken(api, task, emulator):
    assert api.submit(*[task()] * MAX_TASKS).status_code == 200
    assert code(api.submit(*[task()] * (MAX_TASKS + 1))) == "23500013"
    assert code(api.submit()) == "23500009"
    assert emulator.counters.image_tasks == MAX_TASKS


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "23500012"),
        (b"  \n", "23500012"),
        (b"{", "23500013"),
        (b"[]", "23500013"),
        (b"null", "23500013"),
        (b'"text"', "23500013"),
        (b"\xff\xfe", "23500013"),
        (b"{}", "23500009"),
        (b'{"data": null}', "23500009"),
        (b'{"data": {}}', "23500009"),
        (b'{"data": []}', "23500013"),
        (b'{"data": {"task_list": {}}}', "23500013"),
        (b'{"data": {"task_list": [1]}}', "23500013"),
        (b'{"data": {"task_list": null}}', "23500009"),
        (b'{"data": {"task_list": [{}], "more": 1}}', "23500013"),
        (b'{"data": {"task_list": [{}]}, "more": 1}', "23500013"),
        (b"[" * 50_000, "23500013"),
        (b'{"data": {"task_list": [{"strength": NaN}]}}', "23500013"),
        (b'{"data": {"task_list": [], "task_list": []}}', "23500013"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_body_of_another_shape_is_refused(body, expected, api):
    assert code(api.post(SUBMIT_PATH, data=body)) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, "23500009"),
        ({"result_key": ""}, "23500009"),
        ({"result_key": None}, "23500009"),
        ({"result_key": 5}, "23500013"),
        ({"result_key": "x"}, "23500008"),
        ({"result_key": "x", "more": 1}, "23500013"),
    ],
    ids=str,
)
def test_a_query_for_no_job_is_refused(data, expected, api):
    assert code(api.post(QUERY_PATH, data=json.dumps({"data": data}).encode())) == expected


def test_numbers_that_json_cannot_hold_are_refused(api, task):
    text = json.dumps({"data": {"task_list": [task()]}})
    for value in ("Infinity", "NaN", "1e999"):
        body = text.replace('"strength": 0.5', f'"strength": {value}').encode()
        assert code(api.post(SUBMIT_PATH, data=body)) == "23500013"


def test_a_lone_half_of_a_character_does_not_break_the_answer(api, task):
    body = json.dumps({"data": {"task_list": [task(positive_prompt="snow \ud83d")]}}).encode()
    answer = api.post(SUBMIT_PATH, data=body)
    assert answer.status_code == 200
    assert api.query(answer.json()["data"]["result_key"]).status_code == 200


def test_a_refused_submit_is_refused_whole_and_counts_nothing(api, task, emulator):
    api.submit(task(), task(), task(num_output=5))
    counters = emulator.counters
    assert (counters.submits, counters.image_tasks, counters.images, counters.refused) == (0, 0, 0, 1)


def test_a_job_belongs_to_the_appcode_that_submitted_it(api, task, emulator):
    emulator.configure(app_codes={"neighbor": "active"})
    key = api.job(task())
    assert code(api.query(key, Authorization="APPCODE neighbor")) == "23500008"


def test_a_job_is_forgotten_after_its_time(api, task, emulator):
    emulator.configure(job_seconds=3600)
    key = api.job(task())
    emulator.advance(3599)
    assert api.query(key).status_code == 200
    emulator.advance(2)
    assert code(api.query(key)) == "23500008"


def test_credit_is_spent_by_images_and_refuses_what_is_beyond(api, task, emulator):
    emulator.configure(quota_images=4)
    assert api.submit(task(num_output=3)).status_code == 200
    assert code(api.submit(task(num_output=2))) == "23500003"
    assert api.submit(task(num_output=1)).status_code == 200


def test_a_busy_service_accepts_jobs_when_others_are_finished(api, task, emulator):
    emulator.configure(busy_jobs=1, timing="polls", polls=1)
    key = api.job(task())
    assert code(api.submit(task())) == "23500004"
    assert [api.states(key) for _ in range(2)] == [["WAITING"], ["SUCCESS"]]
    assert api.submit(task()).status_code == 200
