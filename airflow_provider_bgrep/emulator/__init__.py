# SPDX-License-Identifier: Apache-2.0
"""An emulator of the background generation API on loopback: strict, deterministic, free of charge.

It answers both operations as the API's document and its gateway do, counts what would be billed,
fails on request (faults are an API) and renders real images. It is no diffusion model: scenery is
drawn by code from words of the prompt. Start it with ``python -m airflow_provider_bgrep.emulator``
or, in tests, with the fixture of :mod:`airflow_provider_bgrep.testing`.

It reads the tables of limits and codes that the client reads, and shares nothing else with it: an
emulator with the client's codec would hide the bugs they had in common.
"""

from __future__ import annotations
