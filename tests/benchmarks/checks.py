# SPDX-License-Identifier: Apache-2.0
"""Benchmark: the cost of checking an image before it is published, relative to decoding it."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from polls import QuietMachine
from skimage.color import deltaE_ciede2000, rgb2gray, rgb2lab
from skimage.metrics import structural_similarity
from tables import Goal, Spread, Table

from airflow_provider_bgrep.catalog.check.comparison import judge
from airflow_provider_bgrep.catalog.config.thresholds import Thresholds
from airflow_provider_bgrep.emulator.render.compose import compose
from airflow_provider_bgrep.emulator.samples import PROMPTS
from airflow_provider_bgrep.emulator.samples.products import PRODUCTS
from airflow_provider_bgrep.emulator.samples.studio import Studio

SIDE = 1024
PRODUCTS_SHOWN = ("bottle", "sneaker", "lamp", "chair")
OUTPUTS = 4
"""The most images that the API generates from one source."""

MAX_TIMES = 1.5
LIMIT, OURS = "limit", "ours"


@dataclass(frozen=True)
class Set:
    """The files of one check.

    :param source: JPEG.
    :param mask: PNG, one channel.
    :param candidates: PNG.
    """

    source: bytes
    mask: bytes
    candidates: list[bytes]


def images(say: Callable[[str], None]) -> list[Set]:
    """Return products and images as the emulator draws them, at 1024 x 1024."""
    sets = []
    for name in PRODUCTS_SHOWN:
        photo, mask = Studio(PRODUCTS[name](), SIDE).photograph()
        source, kept = (
            encoded(photo, "JPEG", quality=95, subsampling=0),
            encoded(mask, "PNG", compress_level=3),
        )
        task = {
            "positive_prompt": PROMPTS[name],
            "guidance_scale": 7.5,
            "strength": 0.5,
            "steps": 50,
            "seed": 0,
        }
        sets.append(Set(source, kept, [compose(source, kept, task, number, "") for number in range(OUTPUTS)]))
        say(f"{name} is drawn")
    return sets


def encoded(image: Image.Image, kind: str, **how: Any) -> bytes:
    """Return an image as a file."""
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def decoded(data: bytes) -> Image.Image:
    """Return an image, decoded completely."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def decode(source: bytes, mask: bytes, candidates: Sequence[bytes]) -> list[float]:
    """The limit: every check has to decode."""
    for data in (source, mask, *candidates):
        decoded(data)
    return []


def ours(source: bytes, mask: bytes, candidates: Sequence[bytes]) -> list[float]:
    """Run all checks and create the thumbnails."""
    return [scores["ssim"] for scores in judge(source, mask, candidates, Thresholds()).scores]


def naive(source: bytes, mask: bytes, candidates: Sequence[bytes]) -> list[float]:
    """Compute SSIM and CIEDE2000 as in scikit-image's examples, and their means over the product."""
    kept = np.asarray(decoded(mask)) > 127
    before = colors(source)
    found = []
    for candidate in candidates:
        after = colors(candidate)
        _, alike = structural_similarity(rgb2gray(before), rgb2gray(after), data_range=1, full=True)
        difference = deltaE_ciede2000(rgb2lab(before), rgb2lab(after))
        found.append(float(alike[kept].mean()))
        assert difference[kept].mean() < 5
    return found


def colors(data: bytes) -> npt.NDArray[np.uint8]:
    """Return the pixels of an image."""
    return np.asarray(decoded(data).convert("RGB"))


Check = Callable[[bytes, bytes, Sequence[bytes]], list[float]]

SUBJECTS: dict[str, tuple[str, Check]] = {
    LIMIT: ("decode only (the limit)", decode),
    OURS: ("ours, with thumbnails", ours),
    "naive": ("scikit-image, full size", naive),
}


def measure(
    repetitions: int,
    home: str,
    say: Callable[[str], None],
    only: set[str] | None = None,
    patience: float = 60.0,
) -> tuple[Table, list[dict[str, Any]]]:
    """Let each subject check the same files in turn, round after round, in one thread.

    :param repetitions: rounds, besides a first one that is not counted.
    :param home: not used; nothing is written.
    :param say: shows progress.
    :param only: subjects to measure beside ours and the limit.
    :param patience: seconds to wait in total for other programs to become idle; then it measures anyway.
    :return: the table, and every turn.
    """
    sets = images(say)
    names = [name for name in SUBJECTS if only is None or name in only | {OURS, LIMIT}]
    turns: list[dict[str, Any]] = []
    quiet = QuietMachine(patience)
    for round_number in range(repetitions + 1):
        quiet.wait()
        for outputs in (1, OUTPUTS):
            # Each round starts with another subject: the one after the heaviest finds colder caches.
            shift = round_number % len(names)
            for name in names[shift:] + names[:shift]:
                seen = turn(SUBJECTS[name][1], sets, outputs)
                if round_number:
                    turns.append({"subject": name, "outputs": outputs, **seen})
        say(f"round {round_number}/{repetitions}")
    return table(turns), turns


def turn(check: Check, sets: list[Set], outputs: int) -> dict[str, Any]:
    """Return the CPU seconds per output image, with its share of source and mask, and the lowest SSIM."""
    alike: list[float] = []
    began = time.process_time()
    for one in sets:
        alike += check(one.source, one.mask, one.candidates[:outputs])
    seconds = (time.process_time() - began) / (len(sets) * outputs)
    return {"seconds": seconds, "ssim": min(alike, default=None)}


def table(turns: list[dict[str, Any]]) -> Table:
    """Return the table."""
    out = Table(
        f"Checking images of {SIDE} x {SIDE} before they are published",
        [
            "median (lowest-highest round)",
            "CPU ms an image",
            "images a second a core",
            "times the limit",
            "lowest SSIM of the products",
        ],
    )
    times: dict[int, Spread] = {}
    for outputs in (1, OUTPUTS):
        limits = seconds(turns, LIMIT, outputs)
        for name, (title, _) in SUBJECTS.items():
            if not (own := seconds(turns, name, outputs)):
                continue
            ratio = Spread.of([mine / limit for mine, limit in zip(own, limits, strict=True)])
            if name == OURS:
                times[outputs] = ratio
            alike = [one["ssim"] for one in turns if one["subject"] == name and one["outputs"] == outputs]
            out.rows.append(
                [
                    f"{title}; {outputs} of a source",
                    Spread.of([1e3 * one for one in own]).shown(1),
                    Spread.of([1 / one for one in own]).shown(1),
                    ratio.shown(2),
                    "" if None in alike else f"{min(alike):.3f}",
                ]
            )
    out.goals = [
        Goal(f"ours: times the CPU of decoding, {outputs} of a source", MAX_TIMES, ratio.median)
        for outputs, ratio in times.items()
    ]
    rounds = len(seconds(turns, OURS, 1))
    out.notes += [
        f"{len(PRODUCTS_SHOWN)} products of the emulator's; source JPEG, mask and images PNG, in memory.",
        f"{rounds} rounds in one thread; an image's share of its source and mask is counted.",
        "The products are unchanged to the pixel: a low SSIM would flag good images.",
    ]
    return out


def seconds(turns: list[dict[str, Any]], name: str, outputs: int) -> list[float]:
    """Return the seconds of a subject's turns, by round."""
    return [one["seconds"] for one in turns if one["subject"] == name and one["outputs"] == outputs]
