# SPDX-License-Identifier: Apache-2.0
"""Apache Airflow provider for Alibaba's background generation API (bg-rep)."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from airflow_provider_bgrep.protocol.models import ImageTask, Job

__all__ = ["ImageTask", "Job", "__version__"]


def __getattr__(name: str) -> object:
    # Imported on first use, so that a DAG file loads only what it uses.
    if name in ("ImageTask", "Job"):
        from airflow_provider_bgrep.protocol import models

        return getattr(models, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
