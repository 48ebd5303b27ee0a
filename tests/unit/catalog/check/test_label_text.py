# SPDX-License-Identifier: Apache-2.0
"""Words that changed or vanished are named; what a reader cannot know for certain is not.

The reader of these tests knows where words are and what they say. ``tests/ocr`` has the real one.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from airflow_provider_bgrep.catalog.check.comparison import Judgment, judge
from airflow_provider_bgrep.catalog.check.label_text import Quad, lost_words
from airflow_provider_bgrep.catalog.config.thresholds import Thresholds
from airflow_provider_bgrep.catalog.model.states import Verdict

# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "text", "lost"),
    [
        # the same
        ("Morning Tea", "Morning Tea", ""),
        ("Morning Tea", "MORNING  tea", ""),
        ("Morning Tea", "MorningTea", ""),
        ("MorningTea", "Morning Tea.", ""),
        ("Crème brûlée", "Creme brulee", ""),
        ("Straße", "STRASSE", ""),
        ("OIL 100 ml", "0IL l00 ml", ""),
        ("AURORA®", "Aurora", ""),
        ("Chardonnay", "Chardonnoy", ""),
        ("Mediterranean", "Meditteranean", ""),
        ("温和洗发水", "温和洗发水", ""),
        # changed
        ("Morning Tea", "Morning Toe", "Tea"),
        ("Morning Tea", "Tea", "Morning"),
        ("Morning Tea", "", "Morning Tea"),
        ("Morning Tea", "Evening Tea", "Morning"),
        ("50 ml", "80 ml", "50"),
        ("50 ml", "500 ml", "50"),
        ("500 ml", "50 ml", "500"),
        ("SPF50 lotion", "SPF30 lotion", "SPF50"),
        ("Batch1234567890", "Batch1234567899", "Batch1234567890"),
        ("Chardonnay", "Chordonnoy", "Chardonnay"),
        ("洗发水", "洗衣水", "洗发水"),
        ("20 bags 50 g", "bags 20 50 g", "20 bags"),
        ("", "more", ""),
    ],
)
def test_words_that_a_text_does_not_contain(words, text, lost):
    words = words.split()
    assert [words[i] for i in sorted(lost_words(words, text))] == lost.split()


@given(st.lists(st.text(min_size=1, max_size=12), max_size=6), st.text(max_size=40))
def test_any_text_can_be_compared(words, text):
    assert lost_words(words, text) <= set(range(len(words)))
    assert lost_words(words, " ".join(words)) == set()


# --- a row ----------------------------------------------------------------------------------------

SIDE = 600
LABEL = (200, 250, 400, 290)


def image(label: int, sign: int = 90) -> bytes:
    """A product with a label, whose level of gray says what is written on it."""
    noise = np.random.default_rng(sign).normal(sign, 30, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
    out = Image.fromarray(noise)
    draw = ImageDraw.Draw(out)
    draw.rectangle((150, 100, 450, 500), fill=(196, 160, 112))
    draw.rectangle(LABEL, fill=(label,) * 3)
    file = io.BytesIO()
    out.save(file, "PNG")
    return file.getvalue()


def mask() -> bytes:
    out = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(out).rectangle((150, 100, 450, 500), fill=255)
    file = io.BytesIO()
    out.save(file, "PNG")
    return file.getvalue()


@dataclass
class Reader:
    """Reads the level of gray."""

    texts: dict[int, str]
    fails_at: str = ""
    calls: list[str] = field(default_factory=list)

    def _called(self, what: str) -> None:
        self.calls.append(what)
        if self.calls.count(self.fails_at) and what == self.fails_at:
            raise RuntimeError("the model is gone, see https://models.example/a?Signature=s3cr3t")

    def find(self, image: Image.Image) -> list[Quad]:
        self._called("find")
        # The product fills the image.
        x, y = image.width / 300, image.height / 400
        left, upper, right, lower = 50 * x, 150 * y, 250 * x, 190 * y
        return [(left, upper, left, lower, right, lower, right, upper)]

    def read(self, line: Image.Image) -> tuple[str, float]:
        self._called("read")
        level = float(np.asarray(line.convert("L"), np.float32)[10:-10, 10:-10].mean())
        return self.texts.get(round(level, -1), ""), 0.99


def looked(reader: Reader, *candidates: bytes, **thresholds: float) -> Judgment:
    relaxed = {"ssim_low": -1, "ssim": -1, "delta_e_high": 200, "delta_e": 200, "psnr": 0}
    return judge(image(200), mask(), candidates, Thresholds(**{**relaxed, **thresholds}), reader=reader)


GOOD, BAD = image(200, sign=40), image(180, sign=40)
TEXTS = {200: "Morning Tea", 180: "Mourning Tea!"}


def test_words_that_changed_are_flagged_by_name():
    found = looked(Reader({200: "Tea 50", 180: "Tea 80"}), GOOD, BAD)
    assert (found.verdict, found.chosen) == (Verdict.PASSED, 0)
    assert found.flags == [
        "image 2: words on the product have changed or are missing: '50' (label_text 0.5, at least 1)"
    ]
    assert [one["label_text"] for one in found.scores] == [1.0, 0.5]
    assert [one["label_words"] for one in found.scores] == [2.0, 2.0]


def test_a_flag_names_only_the_first_words():
    words = [f"word{'x' * i}" for i in range(20, 30)]  # 24 letters and more
    (flag,) = looked(Reader({200: " ".join(words)}), BAD).flags
    assert flag.count("'word") == 5
    assert "and 5 more" in flag
    assert f"'{words[0][:24]}'" in flag
    assert words[1] not in flag
    assert len(flag) < 300


def test_a_source_is_read_once_and_harmless_differences_pass():
    reader = Reader(TEXTS)
    found = looked(reader, GOOD, GOOD, GOOD)
    assert found.verdict is Verdict.PASSED
    assert reader.calls.count("find") == 1
    assert reader.calls.count("read") == 2 + 3
    assert looked(Reader(TEXTS), BAD).verdict is Verdict.PASSED, "one letter of a long word"


def test_the_threshold_relaxes_the_comparison_or_turns_it_off():
    texts = {200: "Tea 50", 180: "Tea 80"}
    assert looked(Reader(texts), BAD, label_text=0.5).verdict is Verdict.PASSED
    reader = Reader(texts)
    found = looked(reader, BAD, label_text=0)
    assert (found.verdict, reader.calls) == (Verdict.PASSED, [])
    assert "label_words" not in found.scores[0]


def test_a_product_without_text_has_no_score():
    found = looked(Reader({}), GOOD)
    assert (found.verdict, found.scores[0]["label_words"]) == (Verdict.PASSED, 0.0)
    assert "label_text" not in found.scores[0]


@pytest.mark.parametrize(
    ("fails_at", "words"), [("find", "could not be read"), ("read", "could not be read")]
)
def test_a_reader_that_fails_does_not_stop_the_check(fails_at, words):
    found = looked(Reader(TEXTS, fails_at), GOOD, BAD)
    assert (found.verdict, found.chosen) == (Verdict.PASSED, 0)
    (flag,) = found.flags
    assert words in flag
    assert "RuntimeError" in flag
    assert "s3cr3t" not in flag
    assert "label_words" not in found.scores[0]


def test_a_reader_that_fails_later_does_not_stop_the_check():
    class Failing(Reader):
        def read(self, line: Image.Image) -> tuple[str, float]:
            if self.calls.count("read") >= 2:
                raise MemoryError
            return super().read(line)

    found = looked(Failing(TEXTS), GOOD, BAD)
    assert (found.verdict, found.chosen) == (Verdict.PASSED, 0)
    assert [flag[:44] for flag in found.flags] == [
        "image 1: the words on the product could not ",
        "image 2: the words on the product could not ",
    ]


@pytest.mark.parametrize("without", ["mask", "source"])
def test_without_a_product_nothing_is_read(without):
    reader = Reader(TEXTS)
    source = None if without == "source" else image(200)
    judge(source, None if without == "mask" else mask(), [GOOD], Thresholds(), reader=reader)
    assert reader.calls == []
