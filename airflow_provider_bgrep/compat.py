# SPDX-License-Identifier: Apache-2.0
"""What differs between Airflow's versions, and common-compat does not know in every one that fits 2.11."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Final

_MASKERS: Final = (
    "airflow.sdk.log",
    "airflow.sdk.execution_time.secrets_masker",  # 3.0
    "airflow.utils.log.secrets_masker",  # 2
)


def mask_secret(secret: str) -> None:
    """Have Airflow mask a secret in every log of this process and of its supervisor."""
    for module in _MASKERS:
        with suppress(ImportError, AttributeError):
            mask = import_module(module).mask_secret
            break
    else:
        raise ImportError(f"this Airflow masks secrets in none of {', '.join(_MASKERS)}")
    mask(secret)


def has_task_state_store() -> bool:
    """Whether this Airflow keeps a state for each task instance (3.3 and later)."""
    from airflow import __version__

    return tuple(map(int, __version__.split(".")[:2])) >= (3, 3)


def has_approval() -> bool:
    """Whether this Airflow can ask a person (3.1 and later)."""
    try:
        import_module("airflow.providers.standard.operators.hitl")
    except ImportError:
        return False
    except Exception:  # on an Airflow that is too old it raises what a user may see, not an ImportError
        return False
    return True
