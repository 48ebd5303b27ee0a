# SPDX-License-Identifier: Apache-2.0
"""Resolves names under ``.localhost`` in each Python process that has this folder on ``PYTHONPATH``."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    from airflow_provider_bgrep.oss_emulator.resolver import install

    install()
