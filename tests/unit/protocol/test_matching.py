# SPDX-License-Identifier: Apache-2.0
"""Each result is matched to the image task it belongs to, or to none: never to another."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bgrep.protocol.identity import url_digest
from airflow_provider_bgrep.protocol.matching import (
    MISSING,
    UnknownTask,
    UnmatchedError,
    echoed_task,
    echoes_nothing,
    match,
)
from airflow_provider_bgrep.protocol.models import ImageTask, Job, TaskResult
from airflow_provider_bgrep.protocol.urls import canonical_url


def submitted(**fields: Any) -> ImageTask:
    return ImageTask(**{"image": "https://a/1.png", "positive_prompt": "sea", **fields})


def job(*echoes: dict[str, Any], status: str = "SUCCESS") -> Job:
    """A job whose tasks carry their position in the answer as their message."""
    return Job("k", tuple(TaskResult(i, status, (), str(i), echo) for i, echo in enumerate(echoes)))


def placed(sent: list[ImageTask | UnknownTask], *echoes: dict[str, Any]) -> list[int | None]:
    """For each submitted task, the position of its result in the answer."""
    matching = match(job(*echoes), sent)
    assert [task.index for task in matching.job.tasks] == list(range(len(sent)))
    return [None if task.status == MISSING else int(task.message) for task in matching.job.tasks]


def test_tasks_are_matched_by_what_is_echoed_not_by_position():
    sent = [submitted(positive_prompt=word) for word in ("sea", "snow", "silk")]
    echoes = [task.as_wire() for task in sent]
    assert placed(sent, echoes[2], echoes[0], echoes[1]) == [1, 2, 0]


def test_an_echo_with_a_mask_is_not_that_of_the_task_without_one():
    sent = [submitted(), submitted(mask="https://a/m.png")]
    assert placed(sent, sent[1].as_wire(), sent[0].as_wire()) == [1, 0]


def test_a_seed_drawn_by_the_service_does_not_match_a_given_one():
    sent = [submitted(), submitted(seed=0)]
    drawn = {**sent[0].as_wire(), "seed": 91823}
    assert placed(sent, sent[1].as_wire(), drawn) == [1, 0]


def test_equal_tasks_get_results_in_the_order_of_the_answer():
    sent = [submitted(), submitted(seed=1), submitted()]
    echoes = [task.as_wire() for task in sent]
    assert placed(sent, echoes[1], echoes[0], echoes[2]) == [1, 0, 2]
    assert placed(sent, echoes[0], echoes[1], echoes[2]) == [0, 1, 2]


def test_where_nothing_is_echoed_the_position_decides():
    assert placed([submitted(), submitted(seed=1)], {}, {}) == [0, 1]


def test_a_position_is_not_taken_where_anything_is_echoed():
    sent = [submitted(positive_prompt=word) for word in ("sea", "snow")]
    image = {"image": sent[0].image}
    for echoes in ([image, image], [{"steps": 50}, {}], [{"image": 7, "seed": ["?"], "steps": 1}] * 2):
        assert placed([*sent], *echoes) == [None, None]
    # What is certain is still placed, and equal tasks are not in doubt.
    sent += [submitted(image="https://a/2.png")]
    assert placed([*sent], image, {"image": sent[2].image}, image) == [None, None, 1]
    assert placed([submitted(), submitted()], image, image) == [0, 1]


def test_where_too_few_tasks_echo_nothing_position_is_ignored():
    assert placed([submitted(), submitted(seed=1)], {}) == [None, None]
    assert echoes_nothing(job({}, {"task_id": "t", "image": " "}))
    assert not echoes_nothing(job({}, {"num_output": 1}))


def test_one_that_is_left_over_is_matched_by_elimination():
    sent = [submitted(positive_prompt="a"), submitted(positive_prompt="b")]
    assert placed(sent, {"steps": 50}, sent[0].as_wire()) == [1, 0]


def test_position_is_ignored_if_the_answer_has_another_order():
    sent = [submitted(image=f"https://a/{i}.png") for i in range(4)]
    matching = match(job({}, {}, sent[0].as_wire(), sent[3].as_wire()), [*sent])
    assert [task.status for task in matching.job.tasks] == ["SUCCESS", MISSING, MISSING, "SUCCESS"]
    assert len(matching.problems) == 2


def test_an_image_outweighs_the_other_fields():
    sent = [submitted(), submitted(image="https://a/2.png", strength=0.9)]
    first = {**sent[0].as_wire(), "strength": 0.9, "steps": 20}
    assert placed(sent, sent[1].as_wire(), first) == [1, 0]


def test_a_result_is_not_taken_whose_image_was_never_submitted():
    sent = [submitted(), submitted(image="https://a/2.png")]
    matching = match(job(sent[0].as_wire(), {"image": "https://other/"}), [*sent])
    assert [task.status for task in matching.job.tasks] == ["SUCCESS", MISSING]
    with pytest.raises(UnmatchedError) as raised:
        matching.checked()
    assert raised.value.result_key == "k"
    assert len(raised.value.problems) == 2


def test_two_results_for_one_submitted_task_are_both_in_doubt():
    sent = [submitted(), submitted(image="https://a/2.png")]
    assert placed(sent, sent[0].as_wire(), sent[0].as_wire()) == [None, None]
    assert placed([submitted()], submitted().as_wire(), {"image": "https://other/"}) == [0]


def test_an_answer_that_omits_finished_tasks_is_incomplete():
    sent = [submitted(positive_prompt="a"), submitted(positive_prompt="b")]
    assert placed(sent, sent[1].as_wire()) == [None, 0]
    with pytest.raises(UnmatchedError, match="contains 1 of 2"):
        match(job(sent[1].as_wire()), [*sent]).checked()
    waiting = match(job(sent[1].as_wire(), status="WAITING"), [*sent]).checked()
    assert not waiting.is_finished
    assert match(Job("k", ()), [*sent]).checked().counts == {MISSING: 2}


def test_an_unknown_task_gets_only_an_unclaimed_result():
    sent = [UnknownTask(), submitted(image="https://a/2.png")]
    assert placed(sent, submitted().as_wire(), sent[1].as_wire()) == [0, 1]
    assert placed(sent, sent[1].as_wire(), submitted().as_wire()) == [1, 0]
    assert placed(sent, sent[1].as_wire(), sent[1].as_wire()) == [None, None]


@pytest.mark.parametrize("others", [(), ({},), ({"steps": 50},)], ids=["left out", "silent", "brief"])
@pytest.mark.parametrize("digest", ["", url_digest("https://a/1.png?auth_key=1")])
def test_an_image_alone_may_be_that_of_an_unknown_task(digest, others):
    """Two image tasks have one photo. The result of the unknown one must not go to the other."""
    sent = [UnknownTask(digest), submitted()]
    assert placed(sent, *others, {"image": "https://a/1.png"}) == [None, None]


def test_an_unknown_task_with_another_image_is_no_rival():
    sent = [UnknownTask(url_digest("https://a/2.png")), submitted()]
    assert placed(sent, {"image": "https://a/1.png"}) == [None, 0]
    assert placed(sent, {"image": "https://a/2.png"}, {"image": "https://a/1.png"}) == [0, 1]
    assert placed(sent, {"image": "https://a/3.png"}) == [None, None]


def test_a_whole_echo_is_not_that_of_an_unknown_task():
    sent = [UnknownTask(), submitted(), submitted(positive_prompt="snow")]
    assert placed(sent, sent[2].as_wire()) == [None, None, 0]
    assert placed(sent, {**sent[2].as_wire(), "positive_prompt": "silk"}) == [0, None, None]
    assert placed(sent, {**sent[2].as_wire(), "seed": 7}) == [None, None, None]


@pytest.mark.parametrize(
    "change", [{"positive_prompt": "snow"}, {"seed": 2}, {"strength": 0.9}, {"mask": "https://a/m2.png"}]
)
def test_a_task_of_an_unnamed_job_must_not_contradict(change):
    """The answer may be about another job of the same photo."""
    sent = [submitted(seed=1, mask="https://a/m.png")]
    answer = job({**sent[0].as_wire(), **change})
    assert match(answer, [*sent]).checked().is_finished, "the job is named, and no other task has this image"
    with pytest.raises(UnmatchedError):
        match(replace(answer, is_named=False), [*sent]).checked()
    for echo in (sent[0].as_wire(), {"image": sent[0].image}, {}):
        assert match(replace(job(echo), is_named=False), [*sent]).checked().is_finished


@pytest.mark.parametrize(
    ("left", "right", "is_same"),
    [
        ("https://a/x%e6.png", "https://a/x%E6.png", True),
        ("https://a/~x.png", "https://a/%7Ex.png", True),
        ("HTTPS://A.example:443/x.png#top", "https://a.example/x.png", True),
        ("https://a/雪.png", "https://a/%E9%9B%AA.png", True),
        ("https://a", "https://a/", True),
        ("https://a/x.png?auth_key=1", "https://a/x.png?auth_key=2", True),
        ("https://a/x.png?v=1", "https://a/x.png?v=2", False),
        ("https://a/x%2Fy.png", "https://a/x/y.png", False),
        ("http://a:8080/x.png", "http://a/x.png", False),
    ],
)
def test_urls_of_one_image_are_equal_however_they_are_written(left, right, is_same):
    assert (canonical_url(left) == canonical_url(right)) is is_same


@pytest.mark.parametrize("text", ["", "http://[", "http://h:port/", "no url", "http://a b/"])
def test_what_is_not_a_url_is_left_alone(text):
    assert isinstance(canonical_url(text), str)


def test_an_echo_describes_an_image_task_whatever_its_form():
    task = submitted(strength=0.7, seed=3, negative_prompt="people")
    assert echoed_task(_text(task.as_wire())) == task
    assert echoed_task(_float32(task.as_wire())) == task
    assert echoed_task({"image": "https://a/1.png"}) is None
    assert echoed_task({}) is None


# --- any order, any form, anything left out -----------------------------------------------------------


def _text(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: f" {value}\n" if name.endswith("prompt") else str(value) for name, value in fields.items()}


def _float32(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: struct.unpack("f", struct.pack("f", value))[0] if isinstance(value, float) else value
        for name, value in fields.items()
    }


def _signed(fields: dict[str, Any]) -> dict[str, Any]:
    urls = {name: f"{fields[name]}?auth_key=new" for name in ("image", "mask") if name in fields}
    return {**fields, **urls}


FORMS: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (dict, _text, _float32, _signed)
TASKS = st.builds(
    ImageTask,
    image=st.sampled_from([f"https://a/{i}.png" for i in range(4)]),
    positive_prompt=st.sampled_from(["sea", "snow", "雪山"]),
    mask=st.sampled_from([None, "https://a/m.png"]),
    strength=st.sampled_from([0.5, 0.7]),
    seed=st.sampled_from([None, 0, 2**60 + 1]),
)


@st.composite
def answers(draw: Any) -> tuple[list[ImageTask], list[int], list[dict[str, Any]], bool]:
    """A submitted list, the order of its answer, the answer's echoes, and whether all images are echoed."""
    sent = draw(st.lists(TASKS, min_size=1, max_size=6))
    order = draw(st.permutations(range(len(sent))))
    keeps_images = draw(st.booleans())
    echoes = []
    for index in order:
        echo = draw(st.sampled_from(FORMS))(sent[index].as_wire())
        if sent[index].seed is None and draw(st.booleans()):
            echo["seed"] = 424242  # drawn by the service
        left_out = draw(st.sets(st.sampled_from(sorted(echo)), max_size=len(echo)))
        echoes.append({n: v for n, v in echo.items() if n not in left_out or (keeps_images and n == "image")})
    return sent, list(order), echoes, keeps_images


@pytest.mark.slow
@given(answers())
def test_a_result_never_goes_to_another_image(case):
    sent, order, echoes, _ = case
    for index, position in enumerate(placed([*sent], *echoes)):
        if position is not None and "image" in echoes[position]:
            assert sent[index].image == sent[order[position]].image


@pytest.mark.slow
@given(answers())
def test_a_result_is_placed_at_its_own_task_or_not_at_all(case):
    sent, order, echoes, _ = case
    found = placed([*sent], *echoes)
    is_by_position = echoes_nothing(job(*echoes))
    for index, position in enumerate(found):
        if position is not None and not is_by_position:
            assert sent[index] == sent[order[position]]


@pytest.mark.slow
@given(answers(), st.data())
def test_no_result_of_an_unknown_task_goes_to_another(case, data):
    """Any image tasks may be unknown, with or without a digest, and any may be missing from the answer."""
    sent, order, echoes, _ = case
    known: list[ImageTask | UnknownTask] = [
        data.draw(st.sampled_from([task, UnknownTask(), UnknownTask(url_digest(task.image))]))
        for task in sent
    ]
    kept = [position for position in range(len(order)) if data.draw(st.booleans())]
    echoes = [echoes[position] for position in kept]
    if echoes_nothing(job(*echoes)):
        return  # by position, if the answer is complete
    for index, position in enumerate(placed(known, *echoes)):
        if position is not None:
            assert sent[index] == sent[order[kept[position]]]


@given(st.lists(TASKS, min_size=1, max_size=6), st.data())
def test_whole_echoes_place_every_result_in_any_order_and_form(sent, data):
    order = data.draw(st.permutations(range(len(sent))))
    echoes = [data.draw(st.sampled_from(FORMS))(sent[index].as_wire()) for index in order]
    matching = match(job(*echoes), [*sent])
    if matching.problems:
        # Only a task without a mask or seed is ever open: the service may have added either.
        assert any(task.mask is None or task.seed is None for task in sent)
        return
    for index, task in enumerate(matching.checked().tasks):
        assert sent[index] == sent[order[int(task.message)]]


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))], ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_different_images_are_always_placed(order, form):
    sent = [submitted(image=f"https://a/{i}.png") for i in range(3)]
    job_ = match(job(*(form(sent[index].as_wire()) for index in order)), [*sent]).checked()
    assert [order[int(task.message)] for task in job_.tasks] == [0, 1, 2]
