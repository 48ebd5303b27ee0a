# SPDX-License-Identifier: Apache-2.0
"""Reads text with RapidOCR, from the extra ``ocr``. Its models are in its wheel; nothing is downloaded."""

from __future__ import annotations

import functools
import os
import threading
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from PIL import Image

from airflow_provider_bgrep.catalog.check.label_text import Quad, TextReader

_PACKAGES: Final = ("rapidocr", "onnxruntime")

_SETTINGS: Final = {
    "Global.log_level": "critical",
    # A task has one core for itself, and other tasks run beside it.
    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
}


_NO_TELEMETRY: Final = ("ORT_DISABLE_TELEMETRY", "1")
"""Environment variable without which ONNX Runtime reports to Microsoft, and writes to the home folder."""


@functools.cache
def text_reader() -> TextReader | None:
    """Return the reader of this process; ``None`` if the extra ``ocr`` is not installed."""
    return _RapidOcr() if all(map(find_spec, _PACKAGES)) else None


class _RapidOcr:
    """RapidOCR with the models for Chinese and Latin text. They are loaded when they are first used."""

    def __init__(self) -> None:
        # The engine keeps the arguments of its latest call.
        self._lock = threading.Lock()
        self._loaded: Any = None

    def _run(self, image: Image.Image, *, finds: bool) -> Any:
        with self._lock:
            if self._loaded is None:
                os.environ.setdefault(*_NO_TELEMETRY)  # before the first import
                self._loaded = import_module("rapidocr").RapidOCR(params=_SETTINGS)
            return self._loaded(image, use_det=finds, use_cls=not finds, use_rec=not finds)

    def find(self, image: Image.Image) -> list[Quad]:
        """Return where an image has lines of text."""
        boxes = self._run(image, finds=True).boxes
        if boxes is None:
            return []
        # Clockwise from the upper left corner.
        return [(*map(float, (*box[0], *box[3], *box[2], *box[1])),) for box in boxes]  # type: ignore[misc]

    def read(self, line: Image.Image) -> tuple[str, float]:
        """Return the text of a line, and how certain it is."""
        found = self._run(line, finds=False)
        if not found.txts:
            return "", 0.0
        return found.txts[0], float(found.scores[0])
