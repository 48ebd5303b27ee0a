# SPDX-License-Identifier: Apache-2.0
"""The index page for people."""

from __future__ import annotations

from html import escape

from airflow_provider_bgrep.emulator import samples
from airflow_provider_bgrep.emulator.core import Core


def index(core: Core) -> str:
    """The page as HTML."""
    counters = "".join(f"<tr><td>{k}</td><td>{v}</td></tr>" for k, v in core.state.counters.as_dict().items())
    pictures = "".join(f'<img src="{escape(s.image)}" height="160">' for s in samples.listing(core.base))
    head = "<!DOCTYPE html><title>bg-rep emulator</title><h1>bg-rep emulator</h1>"
    return f"{head}<table>{counters}</table>{pictures}"
