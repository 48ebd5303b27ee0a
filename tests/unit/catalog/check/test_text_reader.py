# SPDX-License-Identifier: Apache-2.0
"""What is asked of RapidOCR, and what is made of its answers. ``tests/ocr`` has the real one."""

from __future__ import annotations

import os
import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from airflow_provider_bgrep.catalog.check import text_reader as readers
from airflow_provider_bgrep.catalog.check.text_reader import text_reader

IMAGE = Image.new("RGB", (8, 8))
TELEMETRY = "ORT_DISABLE_TELEMETRY"


class Engine:
    """An engine with one answer."""

    def __init__(self) -> None:
        self.answer: Any = None
        self.calls: list[tuple[bool, bool, bool]] = []
        self.loaded: list[dict[str, Any]] = []
        self.telemetry: list[str | None] = []

    def load(self, *, params: dict[str, Any]) -> Engine:
        self.loaded.append(params)
        self.telemetry.append(os.environ.get(TELEMETRY))
        return self

    def __call__(self, image: Image.Image, *, use_det: bool, use_cls: bool, use_rec: bool) -> Any:
        assert image is IMAGE
        self.calls.append((use_det, use_cls, use_rec))
        return self.answer


@pytest.fixture
def installed(monkeypatch):
    """The packages that are installed, and a new process as to what is cached and set."""
    packages = {"rapidocr", "onnxruntime"}
    monkeypatch.setattr(readers, "find_spec", lambda name: object() if name in packages else None)
    monkeypatch.setenv(TELEMETRY, "")
    monkeypatch.delenv(TELEMETRY)
    text_reader.cache_clear()
    yield packages
    text_reader.cache_clear()


@pytest.fixture
def engine(installed, monkeypatch) -> Engine:
    engine, module = Engine(), ModuleType("rapidocr")
    module.RapidOCR = engine.load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rapidocr", module)
    return engine


@pytest.mark.parametrize("missing", ["rapidocr", "onnxruntime"])
def test_without_one_of_the_packages_there_is_no_reader(missing, installed):
    installed.remove(missing)
    assert text_reader() is None


def test_a_process_has_one_reader_that_loads_its_models_once(engine):
    reader = text_reader()
    assert reader is not None
    assert text_reader() is reader
    assert engine.loaded == []
    engine.answer = SimpleNamespace(boxes=None, txts=None, scores=None)
    for _ in range(2):
        reader.find(IMAGE)
        reader.read(IMAGE)
    (settings,) = engine.loaded
    assert {value for name, value in settings.items() if name.endswith("_threads")} == {1}


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("0", "0")])
def test_there_is_no_telemetry_unless_someone_has_set_it(before, after, engine, monkeypatch):
    if before is not None:
        monkeypatch.setenv(TELEMETRY, before)
    engine.answer = SimpleNamespace(boxes=None)
    text_reader().find(IMAGE)
    assert engine.telemetry == [after]


def test_lines_have_their_corners_in_the_order_of_a_quad(engine):
    """RapidOCR's are clockwise; a quad's are not."""
    engine.answer = SimpleNamespace(boxes=[[(1, 2), (9, 3), (8, 7), (0, 6)]])
    found = text_reader().find(IMAGE)
    assert found == [(1, 2, 0, 6, 8, 7, 9, 3)]
    assert {type(number) for number in found[0]} == {float}
    assert engine.calls == [(True, False, False)]


def test_an_image_without_text_has_no_lines(engine):
    engine.answer = SimpleNamespace(boxes=None)
    assert text_reader().find(IMAGE) == []


@pytest.mark.parametrize(
    ("texts", "scores", "found"),
    [(("Juice",), (0.9,), ("Juice", 0.9)), ((), (), ("", 0.0)), (None, None, ("", 0.0))],
)
def test_a_line_is_read_with_its_certainty(texts, scores, found, engine):
    engine.answer = SimpleNamespace(txts=texts, scores=scores)
    assert text_reader().read(IMAGE) == found
    assert engine.calls == [(False, True, True)]


def test_an_engine_that_fails_once_is_asked_again(engine):
    """A lock that stayed closed would stop the task."""
    reader = text_reader()
    with pytest.raises(AttributeError):
        reader.find(IMAGE)
    engine.answer = SimpleNamespace(boxes=None)
    assert reader.find(IMAGE) == []


def test_the_reader_is_not_imported_before_it_reads():
    code = (
        "import sys, airflow_provider_bgrep.catalog.check.text_reader as module; module.text_reader(); "
        "print({'rapidocr', 'onnxruntime', 'cv2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
