# SPDX-License-Identifier: Apache-2.0
"""An emulator of the background generation API on loopback: strict, deterministic, free of charge.

It answers both operations as the API's documentation and its gateway do, counts the images that would be
billed, injects faults on request, and renders real images. It has no diffusion model: code draws the scenery
from words of the prompt. Start it with ``python -m airflow_provider_bgrep.emulator`` or, in tests, with the
fixture of :mod:`airflow_provider_bgrep.testing`.

It reads the same tables of limits and codes as the client, and shares nothing else with it: an emulator that
used the client's codec would hide the bugs of that codec.
"""

from __future__ import annotations
