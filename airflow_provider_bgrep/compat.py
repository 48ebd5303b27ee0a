# SPDX-License-Identifier: Apache-2.0
"""Differences between Airflow's versions that the oldest supported common-compat does not cover."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any, Final

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
        raise ImportError(f"This Airflow has no mask_secret in any of {', '.join(_MASKERS)}.")
    mask(secret)


def airflow_stats() -> Any:
    """Return what sends metrics in this process: it has ``incr`` and ``gauge``."""
    try:
        module = import_module("airflow.sdk.observability.stats")
    except ImportError:  # before 3.2
        return import_module("airflow.stats").Stats
    # From 3.3, the module has the functions, and the class is left for old code.
    return module if hasattr(module, "incr") else module.Stats


def has_task_state_store() -> bool:
    """Whether this Airflow has a task state store (3.3 and later)."""
    return _is_at_least(3, 3)


def has_pages() -> bool:
    """Whether this Airflow serves pages of providers to users who are logged in (3.1 and later)."""
    return _is_at_least(3, 1)


def _is_at_least(major: int, minor: int) -> bool:
    from airflow import __version__

    return tuple(map(int, __version__.split(".")[:2])) >= (major, minor)


def has_approval() -> bool:
    """Whether this Airflow has human-in-the-loop operators (3.1 and later)."""
    try:
        import_module("airflow.providers.standard.operators.hitl")
    except ImportError:
        return False
    except Exception:  # an older Airflow raises an error of its own here
        return False
    return True


def allow_in_xcom(cls: type) -> None:
    """Let a task read instances of a class from XCom. Airflow refuses classes that are not listed.

    :param cls: a dataclass that can be imported by name.
    """
    for module in ("airflow.sdk.serde", "airflow.serialization.serde"):  # 3.2 and later, before
        with suppress(ImportError, AttributeError):
            serde = import_module(module)
            if hasattr(serde, "allow_class"):  # 3.3
                serde.allow_class(cls)
            else:
                serde._extra_allowed.add(f"{cls.__module__}.{cls.__qualname__}")
            return
