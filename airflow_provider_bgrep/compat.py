# SPDX-License-Identifier: Apache-2.0
"""Differences between Airflow's versions that the oldest supported common-compat does not cover."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any, Final, NamedTuple

_MASKERS: Final = (
    "airflow.sdk.log",
    "airflow.sdk.execution_time.secrets_masker",  # 3.0
    "airflow.utils.log.secrets_masker",  # 2
)


class Feature(NamedTuple):
    """Something that not every supported Airflow has.

    :param name: what users see of it, reStructuredText.
    :param since: the first minor that has it.
    :param instead: what happens on earlier ones.
    """

    name: str
    since: tuple[int, int]
    instead: str


ASSETS: Final = Feature(
    "Assets", (3, 0), "``publish`` updates a dataset with the same URI: the older name of an asset."
)
APPROVAL: Final = Feature(
    "A person approves a run (``approve_above``, ``max_rebuy_share``)",
    (3, 1),
    "There is no task ``approve``. A run that needs approval submits nothing, and still collects and "
    "publishes what is billed already.",
)
PAGES: Final = Feature(
    "The API server shows the gallery",
    (3, 1),
    "The link *Gallery* leads to ``destination_url``, if it is set, or to the store's console.",
)
SKIPPED_EVENTS: Final = Feature(
    "OpenLineage events of skipped tasks", (3, 1), "A skipped task has only the event of its start."
)
COMMANDS: Final = Feature(
    "``airflow bgrep …`` on the command line", (3, 2), "``airflow-bgrep …`` is the same command."
)
PARTITIONS: Final = Feature(
    "Partition keys of DAG runs and asset events", (3, 2), "Events have no key, and no DAG asks for one."
)
STATE_STORE: Final = Feature(
    "A task state store, which keeps the record of submits",
    (3, 3),
    "Set ``journal_path`` for operators outside of a catalog. Without it, a second try submits nothing. A "
    "catalog keeps its record in the destination on every version.",
)
RETRY_POLICY: Final = Feature(
    "``BgRepRetryPolicy`` for tasks that call the hooks",
    (3, 3),
    "Retries are those of the task. Final errors of the operators fail at once on every version.",
)

FEATURES: Final = (
    ASSETS,
    APPROVAL,
    PAGES,
    SKIPPED_EVENTS,
    COMMANDS,
    PARTITIONS,
    STATE_STORE,
    RETRY_POLICY,
)
"""What the supported versions of Airflow lack, in the order of versions."""


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
    return _has(STATE_STORE)


def has_pages() -> bool:
    """Whether this Airflow serves pages of providers to users who are logged in (3.1 and later)."""
    return _has(PAGES)


def _has(feature: Feature) -> bool:
    from airflow import __version__

    return tuple(map(int, __version__.split(".")[:2])) >= feature.since


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
