# SPDX-License-Identifier: Apache-2.0
"""The page of masks: every image, the doubtful ones first, and no text of a file is markup."""

from __future__ import annotations

from bgrep_harness.cutouts import drawn_product, even, on_background

from airflow_provider_bgrep.masks.batch import FileResult
from airflow_provider_bgrep.masks.make import make_mask
from airflow_provider_bgrep.masks.page import MaskPage

WHITE = even(255, 255, 255)


def result(name, color="#2c6e8f"):
    data = on_background(drawn_product(color=color), WHITE)
    made = make_mask(data)
    return FileResult(f"/shop/{name}", made=made, is_doubtful=made.confidence < 0.8, data=data)


def test_doubtful_images_come_first():
    page = MaskPage(0.8)
    page.add(result("sure.jpg"))
    page.add(result("pale.jpg", "#f9f9f9"))
    page.add(FileResult("/shop/bad.jpg", problem="is bad"))
    text = page.render().decode()
    assert text.index("bad.jpg") < text.index("pale.jpg") < text.index("sure.jpg")
    assert "3 images; 2 need a person" in text
    assert text.count("<img") == 4
    assert text.count('class="doubtful"') == 2


def test_names_and_reasons_are_not_markup():
    page = MaskPage(0.8)
    page.add(FileResult("/shop/<script>.jpg", problem="<b onload=x>"))
    text = page.render().decode()
    assert "<script>" not in text
    assert "<b onload" not in text
