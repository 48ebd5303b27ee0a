# SPDX-License-Identifier: Apache-2.0
"""Puts the kept foreground on a drawn background."""

from __future__ import annotations

import hashlib
import io
from typing import Any

from PIL import Image

from airflow_provider_bgrep.emulator.pictures import as_mask, opened


def compose(image: bytes | None, mask: bytes | None, task: dict[str, Any], number: int, seed: str) -> bytes:
    """One result picture, as PNG."""
    digest = hashlib.sha256(f"{task.get('seed', seed)}/{number}/{task['positive_prompt']}".encode()).digest()
    source = opened(image).convert("RGB") if image else Image.new("RGB", (1024, 1024), "white")
    back = Image.new("RGB", source.size, tuple(digest[:3]))
    if image and mask:
        back.paste(source, mask=as_mask(opened(mask)))
    out = io.BytesIO()
    back.save(out, "PNG", compress_level=1)
    return out.getvalue()
