# SPDX-License-Identifier: Apache-2.0
"""What words of a prompt mean to the renderer."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.emulator.render.words import COLORS, LIGHTS, SCENES, understand


@pytest.mark.parametrize(
    ("prompt", "negative", "scene", "light"),
    [
        ("蓝天白云", "", "sky", "day"),
        ("雪山, 日落", "", "mountains", "sunset"),
        ("soft pale yellow silk", "", "silk", "day"),
        ("a rock by the shore of Erhai Lake, blue lake surface and distant mountains", "", "sea", "day"),
        ("snow-capped mountains over a meadow", "", "mountains", "day"),
        ("a warm and modern living room", "", "living room", "warm"),
        ("the sea at night", "", "sea", "night"),
        ("the sea and mountains", "mountains", "sea", "day"),
        ("a knot of chessmen", "", "studio", "day"),
        ("", "", "studio", "day"),
    ],
)
def test_words_choose_scene_and_light(prompt, negative, scene, light):
    wish = understand(prompt, negative)
    assert (wish.scene, wish.light) == (scene, light)


@pytest.mark.parametrize(("table", "field"), [(SCENES, "scene"), (LIGHTS, "light")])
def test_every_word_of_a_table_is_found(table, field):
    for name, words in table.items():
        for word in words.replace("waves?", "waves").split("|"):
            found = understand(word.replace("?", ""))
            assert name in (getattr(found, field), *found.others), word


@pytest.mark.parametrize(
    ("prompt", "negative", "named", "color"),
    [
        ("a red wall", "", True, "red"),
        ("a wall in GOLD", "", True, "yellow"),
        ("红色的墙", "", True, "red"),
        ("red and blue", "red", True, "blue"),
        ("a sacred wall", "", False, None),
        ("", "", False, None),
    ],
)
def test_the_first_color_is_found_or_one_is_drawn_from_the_text(prompt, negative, named, color):
    wish = understand(prompt, negative)
    assert wish.named is named
    if color:
        assert wish.color == next(value for words, value in COLORS.items() if color in words.split("|"))
    assert wish.color == understand(prompt, negative).color


def test_further_scenes_are_kept_in_order():
    wish = understand("the sea, a forest and a city")
    assert (wish.scene, wish.others) == ("sea", ("forest", "city"))


def test_a_word_is_a_whole_word():
    wish = understand("A Wooden shoe")
    assert wish.words == "a wooden shoe"
    assert not wish.has("wood")
    assert wish.has("wood|shoe")
    assert not wish.has("雪")
    assert understand("白雪").has("雪")


def test_half_a_character_is_no_error():
    assert understand("snow \ud83d").scene == "mountains"
