# SPDX-License-Identifier: Apache-2.0
"""The words on products, read by the real RapidOCR, in an environment of their own (``make ocr``)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness.pairs import HARMLESS, TEXT_DAMAGE, flagged_by, measures_of
from bgrep_harness.pairs.labels import INKS, Look, drawn, file, fine_print, mask
from bgrep_harness.runs import Destination, row
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from airflow_provider_bgrep.catalog.check.comparison import Judgment, judge
from airflow_provider_bgrep.catalog.check.shard import Checker, Images, check_shard
from airflow_provider_bgrep.catalog.check.text_reader import text_reader
from airflow_provider_bgrep.catalog.config.thresholds import Thresholds
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.model.states import Verdict
from airflow_provider_bgrep.storage import storage_path

CHINESE = Image.open(Path(__file__).parent / "chinese.png")
"""Two labels, rendered once, because Pillow's own font has no Chinese characters."""

ONLY_TEXT = {"ssim": -1, "ssim_low": -1, "delta_e": 200, "delta_e_high": 200, "psnr": 0}


def checked(source: bytes, kept: bytes, *candidates: bytes) -> Judgment:
    return judge(source, kept, candidates, Thresholds(**ONLY_TEXT), reader=text_reader())


def compared(lines: Sequence[Any], other: Sequence[Any], look: Look) -> Judgment:
    return checked(
        file(drawn(lines, look)), file(mask(look)), file(drawn(lines, look, 90)), file(drawn(other, look, 90))
    )


# --- what is read ---------------------------------------------------------------------------------

LOOKS = {
    **INKS,
    "large": Look(height=0.12),
    "small": Look(height=0.026),
    "in an image of 2400 pixels": Look(side=2400, height=0.02),
    "in an image of 400 pixels": Look(side=400, height=0.06),
    "upward": Look(turn=90),
    "downward": Look(turn=270),
    "upside down": Look(turn=180),
    "slanted": Look(turn=12),
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_changed_word_is_named_and_an_unchanged_one_is_not(look):
    found = compared(["Cold Pressed", "Juice 250 ml"], ["Cold Pressed", "Juice 350 ml"], LOOKS[look])
    assert (found.verdict, found.chosen) == (Verdict.PASSED, 0), found.flags
    (flag,) = found.flags
    assert flag.startswith("image 2: words on the product have changed or are missing: '250")
    assert flag.count("'") == 2
    assert found.scores[0]["label_words"] >= 4


def test_chinese_is_read():
    lines = [CHINESE.crop((0, 0, CHINESE.width, CHINESE.height // 2))]
    other = [CHINESE.crop((0, CHINESE.height // 2, CHINESE.width, CHINESE.height))]
    found = compared(lines, other, Look(height=0.06))
    assert (found.verdict, found.chosen) == (Verdict.PASSED, 0), found.flags
    assert "洗发水" in found.flags[0]


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_an_image_that_exif_turns_is_read_upright(orientation):
    back = {3: 180, 6: 90, 8: 270}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    lines, other = ["Cold Pressed", "Juice"], ["Cold Pressed", "Sauce"]

    def turned(image: Image.Image) -> bytes:
        return file(image.rotate(back, expand=True), "JPEG", quality=92, exif=exif)

    good, bad = file(drawn(lines, ground=90)), turned(drawn(other, ground=90))
    found = checked(turned(drawn(lines)), file(mask()), good, bad)
    assert (found.verdict, found.chosen) == (Verdict.PASSED, 0), found.flags
    assert [flag.partition(": ")[2][:60] for flag in found.flags] == [
        "words on the product have changed or are missing: 'Juice' (l"
    ]


def test_text_beside_the_product_is_not_compared():
    source, good = drawn(["Juice"]), drawn(["Juice"], ground=90)
    for image, words in ((source, "STUDIO SALE"), (good, "HOTEL")):
        ImageDraw.Draw(image).text(
            (400, 60), words, fill="black", font=ImageFont.load_default(60), anchor="mm"
        )
    found = checked(file(source), file(mask()), file(good))
    assert (found.flags, found.scores[0]["label_words"]) == ([], 1.0)


def test_text_that_nobody_can_read_is_not_compared():
    look = Look(height=0.05)
    blurred = drawn(["Cold Pressed", "Juice"], look).filter(ImageFilter.GaussianBlur(12))
    found = checked(file(blurred), file(mask()), file(drawn(["Sauce"], look, 90)))
    assert (found.verdict, found.scores[0]["label_words"]) == (Verdict.PASSED, 0.0)


# --- what may happen to an image ------------------------------------------------------------------


def resized(image: Image.Image, scale: float) -> Image.Image:
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


HARM: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG of quality 60": lambda image: file(image, "JPEG", quality=60),
    "WebP": lambda image: file(image, "WEBP", quality=70),
    "smaller": lambda image: file(resized(image, 0.72), "JPEG", quality=75),
    "larger": lambda image: file(resized(image, 2.0), "JPEG", quality=85),
    "darker": lambda image: file(image.point(lambda value: value * 0.93)),
    "sharpened": lambda image: file(image.filter(ImageFilter.UnsharpMask(1, 80, 0))),
    "softened": lambda image: file(image.filter(ImageFilter.GaussianBlur(0.8))),
}


@pytest.mark.parametrize("harm", HARM)
def test_words_stay_readable_through_what_a_service_may_do(harm):
    look = Look(side=1000, height=0.024)
    lines = [
        "Cold Pressed Apple Juice",
        "Zutaten: Apfel, Birne, E300",
        "Best before 07/2028",
        "1 l e",
        "B-52",
    ]
    found = checked(
        file(drawn(lines, look)), file(mask(look)), HARM[harm](drawn(lines, look, 90)), file(drawn([], look))
    )
    assert (found.verdict, found.chosen) == (Verdict.PASSED, 0), found.flags
    assert found.scores[0]["label_words"] >= 8
    assert found.scores[1]["label_text"] == 0.0
    assert " more (label_text" in found.flags[0]


@pytest.mark.parametrize("change", HARMLESS[::4], ids=lambda change: f"{change.kind} {change.strength}")
def test_harmless_changes_of_the_pairs_pass(change):
    for name in ("carton", "tin"):
        assert measures_of(change, name, text_reader()) == []


@pytest.mark.parametrize("change", TEXT_DAMAGE, ids=lambda change: f"{change.kind} {change.strength}")
def test_changed_labels_of_the_pairs_are_flagged(change):
    for name in ("jar", "tin"):
        assert "label_text" in (measures_of(change, name, text_reader()) or [])


def test_fine_print_is_read_though_the_images_look_alike():
    found = {
        (kind, strength): flagged_by(pair, text_reader())
        for kind, strength, look, pair in fine_print()
        if look == "dark on light" and "1.5%" in strength
    }
    unchanged, digit, letters, missing = found.values()
    assert (unchanged, digit, letters) == ([], ["label_text"], ["label_text"])
    assert "label_text" in missing


# --- a shard --------------------------------------------------------------------------------------


class Drawn(Checker):
    """A checker whose images are drawn."""

    def fetch(self, row: Any) -> Images:
        other = "Sauce" if row["name"] == "mug" else "Juice"
        return Images(file(drawn(["Juice"])), file(mask()), (file(drawn([other], ground=90)),))


@pytest.mark.parametrize("limit", [1, 0])
def test_a_row_whose_label_changed_is_flagged(tmp_path, limit, caplog):
    shop = Destination(CatalogPaths(storage_path(str(tmp_path / "shop"))))
    run = shop.plan([row("lamp"), row("mug")])
    run.work()
    thresholds = Thresholds(**ONLY_TEXT, label_text=limit)
    counts = check_shard(run.store, 0, Drawn(run.store.paths.destination, thresholds, None))
    assert (counts["passed"], counts["flagged"]) == ((1, 1) if limit else (2, 0))
    found = {one["name"]: json.loads(one["flags"]) for one in run.store.results(0)}
    assert not found["lamp"]
    assert [("'Juice'" in flag) for flag in found["mug"]] == ([True] if limit else [])


def test_nothing_is_downloaded_written_or_logged(tmp_path):
    """In a process without network."""
    code = """
import socket, sys
def refused(*_, **__):
    raise OSError("no network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refused
from PIL import Image
from airflow_provider_bgrep.catalog.check.text_reader import text_reader
reader = text_reader()
assert text_reader() is reader
before = "rapidocr" in sys.modules
print(before, reader.find(Image.new("RGB", (200, 200), "white")), reader.read(Image.open(sys.argv[1])))
"""
    line = tmp_path / "line.png"
    drawn(["Juice"]).crop((120, 340, 680, 460)).save(line)
    done = subprocess.run(
        [sys.executable, "-c", code, str(line)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HOME": str(tmp_path / "nowhere")},
    )
    assert done.stdout.startswith("False [] ('Juice', 0.9")
    assert "rapidocr" not in done.stderr.lower()
    assert not (tmp_path / "nowhere").exists()
