# SPDX-License-Identifier: Apache-2.0
"""Scenes, drawn small: 96 by 64 pixels are enough to compare them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from airflow_provider_bgrep.emulator.render.canvas import Canvas
from airflow_provider_bgrep.emulator.render.words import understand


@pytest.fixture
def draw() -> Callable[..., Any]:
    """Draw a scene."""

    def draw(
        scene: Callable[..., Any],
        prompt: str,
        *,
        seed: int = 1,
        size: tuple[int, int] = (96, 64),
        **facts: Any,
    ) -> Any:
        canvas = Canvas(*size, np.random.default_rng(seed), understand(prompt))
        image = np.asarray(scene(canvas, **facts))
        assert image.shape == (*size[::-1], 3)
        assert np.isfinite(image).all()
        return image

    return draw
