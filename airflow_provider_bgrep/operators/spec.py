# SPDX-License-Identifier: Apache-2.0
"""The inputs of a run, as immutable values without operators or other Airflow classes.

Loaded when a task is executed, not when a DAG file is parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_bgrep.protocol.limits import RESULT_URL_SECONDS

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_bgrep.journal.records import SubmitRecord
    from airflow_provider_bgrep.journal.stores import Store
    from airflow_provider_bgrep.operators.options import GenerateOptions
    from airflow_provider_bgrep.protocol.models import ImageTask


@dataclass(frozen=True, kw_only=True)
class GenerateSpec:
    """A run of ``BgRepGenerateOperator``, or of one shard of a catalog.

    :param task_list: the image tasks, not validated yet.
    :param destination: the folder for the images; absolute.
    :param bgrep_conn_id: the connection.
    :param store: the store of the journal; ``None`` if there is none.
    :param poll_interval: seconds between two queries of one job.
    :param timeout: seconds from the start of the first try to the deadline.
    :param options: further options.
    :param deferrable: whether the run may wait in the triggerer.
    :param fail_on: ``any``, ``all`` or ``never``.
    :param max_images: number of images that may be submitted in all tries; ``None`` for no limit.
    :param on_unknown_outcome: ``fail`` or ``resubmit``.
    :param known_records: submits of this list's image tasks by other tasks. They are collected, not
        submitted again.
    :param manifest: path of the manifest; ``None`` for a file in the destination that is named after the
        task.
    :param rate_share: this task's share of the connection's ``max_requests_per_second``, above 0, at most 1.
    :param keys: identities of the image tasks that the caller has chosen; ``None`` to derive them from the
        content of the image tasks.
    :param collect_only: identities of image tasks that another run submitted; they are collected and never
        submitted.
    :param sign: gives an image task the URLs that are sent. Called in a thread just before each submit. The
        list is then not validated beforehand, and may contain paths instead of URLs.
    :param collect_after: seconds that a finished image task may wait for others before it is saved.
    :param price_per_image: the price of an image; ``None`` if it is not known.
    :param taken_keys: keys of jobs of other tasks, whatever their image tasks are.
    """

    task_list: Any
    destination: str | ObjectStoragePath
    bgrep_conn_id: str
    store: Store | None
    poll_interval: float
    timeout: float
    options: GenerateOptions
    deferrable: bool = False
    fail_on: str = "any"
    max_images: int | None = None
    on_unknown_outcome: str = "fail"
    known_records: tuple[SubmitRecord, ...] = ()
    manifest: ObjectStoragePath | None = None
    rate_share: float = 1.0
    keys: tuple[str, ...] | None = None
    collect_only: frozenset[str] = frozenset()
    sign: Callable[[ImageTask], ImageTask] | None = None
    collect_after: float = RESULT_URL_SECONDS / 3
    price_per_image: Decimal | None = None
    taken_keys: frozenset[str] = frozenset()

    @property
    def may_resubmit(self) -> bool:
        """Whether a submit with an unknown outcome may be repeated, which may be billed twice."""
        return self.on_unknown_outcome == "resubmit"


@dataclass(frozen=True)
class SubmitSpec:
    """One job to be submitted.

    :param task_list: 1 to 10 image tasks, not validated yet.
    :param bgrep_conn_id: the connection.
    :param store: the store of the journal; ``None`` if there is none.
    :param on_unknown_outcome: ``fail`` or ``resubmit``.
    """

    task_list: Any
    bgrep_conn_id: str
    store: Store | None
    on_unknown_outcome: str = "fail"

    @property
    def may_resubmit(self) -> bool:
        """Whether a submit with an unknown outcome may be repeated, which may be billed twice."""
        return self.on_unknown_outcome == "resubmit"
