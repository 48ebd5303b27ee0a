# SPDX-License-Identifier: Apache-2.0
"""What words of a prompt mean to the renderer: a scene, a light, a color.

Words are looked for as they are written, in English and Chinese. This is all the understanding of
language there is.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

Color = tuple[float, float, float]

SCENES: Final[dict[str, str]] = {
    "graffiti": "graffiti|street art|mural|brick wall|涂鸦|艺术墙|砖墙",
    "silk": "silk|satin|velvet|fabric|drapery|cloth|丝绸|绸缎|丝滑|布料|绒",
    "living room": "living room|bedroom|interior|sofa|couch|nordic|indoor|home|apartment"
    "|客厅|卧室|室内|沙发|北欧|家居",
    "sea": "sea|ocean|beach|lake|coast|shore|waves?|island|seagulls?|erhai|海|沙滩|湖|岸|浪|洱海",
    "mountains": "snow|snowy|snowfield|mountains?|alps|peaks?|glaciers?|winter|tibet|雪|山|冬|冰川|西藏",
    "forest": "forest|trees?|woods|autumn|leaves|jungle|park|森林|树|秋|落叶|竹",
    "city": "city|neon|street|skyline|cyberpunk|urban|tokyo|shanghai|城市|霓虹|街|都市|上海",
    "meadow": "meadow|grass|grassland|lawn|flowers?|blossom|spring|garden|field|highway|草|花|春|田野|樱",
    "desert": "desert|dunes?|sand|canyon|sahara|沙漠|沙丘|戈壁",
    "sky": "sky|clouds?|heaven|airy|天空|蓝天|白云|云",
    "table": "wooden table|table|kitchen|cafe|coffee shop|bakery|wood|桌|厨房|咖啡|木",
    "space": "space|galaxy|stars?|nebula|universe|moon|太空|星空|银河|宇宙|星",
    "studio": "studio|podium|pedestal|marble|minimal|minimalist|plain|gradient|影棚|大理石|简约|展台|纯色",
}
"""Scenes by the words that choose them, as parts of a regular expression."""

LIGHTS: Final[dict[str, str]] = {
    "sunset": "sunset|dusk|golden hour|sunrise|dawn|evening|日落|黄昏|夕阳|日出|傍晚|晚霞",
    "night": "night|midnight|moonlit|dark|neon|夜|黑暗|霓虹",
    "warm": "warm|cosy|cozy|candle|暖|温馨",
}

COLORS: Final[dict[str, Color]] = {
    "yellow|黄|golden|gold|金": (0.93, 0.80, 0.50),
    "pink|粉|rose|玫瑰": (0.93, 0.66, 0.71),
    "red|红|scarlet|crimson": (0.74, 0.16, 0.17),
    "purple|violet|lavender|紫": (0.57, 0.45, 0.75),
    "blue|蓝|azure|navy": (0.32, 0.52, 0.78),
    "green|绿|emerald|mint|翠": (0.38, 0.62, 0.47),
    "teal|turquoise|cyan|青": (0.25, 0.60, 0.62),
    "orange|橙|coral|peach|橘": (0.93, 0.58, 0.36),
    "white|白|ivory|cream|beige|米": (0.93, 0.90, 0.85),
    "grey|gray|silver|灰|银": (0.66, 0.67, 0.69),
    "black|黑|charcoal": (0.13, 0.13, 0.15),
    "brown|棕|chocolate|褐": (0.50, 0.34, 0.23),
}

_OTHERS: Final = (
    (0.93, 0.80, 0.50), (0.93, 0.66, 0.71), (0.57, 0.45, 0.75), (0.38, 0.62, 0.47), (0.25, 0.60, 0.62),
    (0.93, 0.58, 0.36), (0.42, 0.58, 0.80),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wish:
    """What a prompt asks for.

    :param scene: one of :data:`SCENES`.
    :param others: further scenes whose words it has, in their order.
    :param light: one of :data:`LIGHTS`, or ``day``.
    :param color: the first color it names, or one drawn from its text.
    :param named: whether it names a color.
    :param words: the text itself, in small letters.
    """

    scene: str
    others: tuple[str, ...]
    light: str
    color: Color
    named: bool
    words: str

    def has(self, words: str) -> bool:
        """Whether the prompt has one of these words (parts of a regular expression)."""
        return _first(words, self.words) is not None


def understand(positive: str, negative: str = "") -> Wish:
    """Read a prompt.

    :param positive: what the background should be.
    :param negative: what it should not hold: words of scenes, lights and colors are struck out.
    """
    text = positive.casefold()
    unwanted = negative.casefold()
    scenes = _found(SCENES, text, unwanted)
    lights = _found(LIGHTS, text, unwanted)
    colors = _found({words: words for words in COLORS}, text, unwanted)
    digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
    return Wish(
        scene=scenes[0] if scenes else "studio",
        others=tuple(scenes[1:]),
        light=lights[0] if lights else "day",
        color=COLORS[colors[0]] if colors else _OTHERS[digest[0] % len(_OTHERS)],
        named=bool(colors),
        words=text,
    )


def _found(table: dict[str, str], text: str, unwanted: str) -> list[str]:
    """Names of the table whose words the text has, in the table's order."""
    return [name for name, words in table.items() if _first(words, text) and not _first(words, unwanted)]


def _first(words: str, text: str) -> re.Match[str] | None:
    # Latin words are whole words; Chinese is written without spaces. A wooden shoe is not a forest.
    latin = "|".join(word for word in words.split("|") if word.isascii())
    other = "|".join(word for word in words.split("|") if not word.isascii())
    match = re.search(rf"(?<![a-z])(?:{latin})(?![a-z])", text) if latin else None
    return match or (re.search(other, text) if other else None)
