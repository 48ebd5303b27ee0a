# SPDX-License-Identifier: Apache-2.0
"""The same submit has the same identity, however it is signed and written; any other has another."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bgrep.protocol.identity import fingerprint, identities
from airflow_provider_bgrep.protocol.models import ImageTask
from airflow_provider_bgrep.protocol.urls import strip_signature
from airflow_provider_bgrep.protocol.validation import validate_tasks

IMAGE = "https://shop.oss-cn-hangzhou.aliyuncs.com/lamp.png"
TASK = ImageTask(image=IMAGE, positive_prompt="sea")


def test_a_fragment_and_the_case_of_scheme_and_host_do_not_count():
    assert strip_signature("HTTPS://Example.com/A.png?B=C#d") == "https://example.com/A.png?B=C"


def test_what_has_no_signature_is_left_alone():
    assert strip_signature(IMAGE) == IMAGE


DIFFERENT: list[dict[str, Any]] = [
    {},
    {"image": IMAGE + "2"},
    {"positive_prompt": "snow"},
    {"positive_prompt": "sea "},
    {"mask": IMAGE},
    {"negative_prompt": "people"},
    {"guidance_scale": 7.6},
    {"strength": 0.51},
    {"seed": 0},
    {"seed": 1},
    {"steps": 49},
    {"num_output": 2},
]


def test_whatever_is_submitted_differently_has_another_identity():
    prints = [fingerprint([replace(TASK, **change)]) for change in DIFFERENT]
    assert len(set(prints)) == len(DIFFERENT)


def test_an_id_is_not_submitted():
    assert fingerprint([replace(TASK, id="sku")]) == fingerprint([TASK])


def test_order_and_number_count():
    other = replace(TASK, seed=1)
    assert len({fingerprint(list(p)) for p in itertools.permutations([TASK, other])}) == 2
    assert fingerprint([TASK]) != fingerprint([TASK, TASK])


def test_seven_submits_what_seven_point_zero_submits():
    as_int, as_float = ({"guidance_scale": 7, "strength": 1}, {"guidance_scale": 7.0, "strength": 1.0})
    assert fingerprint([replace(TASK, **as_int)]) == fingerprint([replace(TASK, **as_float)])


def test_an_empty_negative_prompt_submits_what_none_submits():
    mapping = {"image": IMAGE, "positive_prompt": "sea"}
    assert fingerprint(validate_tasks([{**mapping, "negative_prompt": ""}])) == fingerprint(
        validate_tasks([mapping])
    )


def test_a_fingerprint_never_changes_between_releases():
    # Written to journals and ledgers: a change here makes every submit on record a new one.
    assert fingerprint([TASK]) == "a831ccd183d16dc7ef127aa253b8fb8a665a6f5d3e92735c57a39f8143bea71b"


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50))
def test_any_prompt_has_an_identity(prompt):
    assert len(fingerprint([replace(TASK, positive_prompt=prompt)])) == 64


# --- one identity an image task -------------------------------------------------------------------

OTHER = replace(TASK, positive_prompt="snow")


def test_an_identity_never_changes_between_releases():
    # Journals find submits by it: a change here submits everything on record once more.
    assert identities([TASK]) == ("81a8f04009cf64fc25a8f8adb633e18a",)
    assert identities([TASK], "bgrep_default", "") == ("bca7051617087d9c065353c430c6a079",)
    assert identities([TASK], "bgrep_default", "spring") == ("d5b6594571e9df1e48af6c9b1e742773",)


def test_equal_image_tasks_have_identities_of_their_own():
    first, other, second, third = identities([TASK, OTHER, replace(TASK, id="sku"), TASK])
    assert (second, third) == (f"{first}#1", f"{first}#2")
    assert "#" not in other


@given(st.lists(st.sampled_from([TASK, OTHER, replace(TASK, seed=0), replace(TASK, seed=1)]), max_size=12))
def test_identities_are_unique_and_the_same_in_any_order(tasks):
    found = identities(tasks, "conn", "")
    assert len(set(found)) == len(tasks)
    assert sorted(identities(tasks[::-1], "conn", "")) == sorted(found)
    # What is added to a list changes nothing of what was there.
    assert identities([*tasks, TASK], "conn", "")[: len(tasks)] == found


def test_scope_separates_identities_wherever_it_is_cut():
    scopes = [(), ("a",), ("b",), ("a", ""), ("", "a"), ("a", "b"), ("ab", ""), ("", "ab"), ("", "")]
    assert len({identities([TASK], *scope) for scope in scopes}) == len(scopes)


def test_neither_a_signature_nor_an_id_makes_another_identity():
    signed = [replace(TASK, image=f"{IMAGE}?auth_key={n}", id=n) for n in (1, 2)]
    assert identities(signed[:1]) == identities(signed[1:]) == identities([TASK])


def test_without_image_tasks_there_are_no_identities():
    assert identities([]) == ()
