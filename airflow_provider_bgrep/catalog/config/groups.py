# SPDX-License-Identifier: Apache-2.0
"""Options of ``catalog_refresh`` that most users leave at their defaults, in groups.

Each group can be an instance of its class, a mapping with the same names, or JSON text, for example from
a template. Every field may be a template unless it is listed in :data:`FIXED`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Final

from airflow_provider_bgrep.catalog.config.filename_template import PublishRules
from airflow_provider_bgrep.catalog.config.parsing import (
    number,
    parse_bool,
    parse_mapping,
    parse_positive_seconds,
    parse_text,
    shown,
)
from airflow_provider_bgrep.operators.options import MAX_RETRY_FAILED
from airflow_provider_bgrep.protocol.errors import Problem
from airflow_provider_bgrep.protocol.limits import DEFAULT_POLL_INTERVAL, DEFAULT_TIMEOUT


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """How the catalog and its images are read.

    :param source_conn_id: the Airflow connection with which images on object storage are read and signed.
    :param catalog_format: ``csv``, ``jsonl`` or ``parquet``. Default: from the file name.
    :param encoding: the encoding of a CSV file that is neither Unicode nor GB18030.
    :param delimiter: the delimiter of a CSV file. Default: detected in its header.
    :param empty_cells: texts that are taken for empty cells; case does not matter. ``[]`` for none. Default:
        ``NULL``, ``None``, ``NaN``, ``#N/A``, ``N/A``, dashes and some more.
    :param ignored_url_parameters: names of query parameters that do not determine the image, such as
        ``["token", "expires"]``, for URLs that are signed in a form that is not recognized. A row whose URL
        differs in nothing else is not submitted again. Ledger and manifest do not contain them.
    :param allowed_image_prefixes: if given, images and masks must be in one of these folders or hosts, such
        as ``["s3://shop/images/", "https://cdn.shop.example/"]``.
    :param allow_private_sources: whether images may be fetched from loopback, link-local, private and other
        non-public addresses. By default they are not, because whoever writes the catalog could otherwise read
        what only the workers can reach.
    :param check_sources: whether the plan task reads the beginnings of images and masks, to find what the
        service would refuse: ``sample`` (100 rows to submit, for at most a minute), ``all`` (for at most an
        hour) or ``off``.
    """

    source_conn_id: str | None = None
    catalog_format: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    empty_cells: Sequence[str] | str | None = None
    ignored_url_parameters: Sequence[str] | str | None = None
    allowed_image_prefixes: Sequence[str] | str | None = None
    allow_private_sources: bool | str = False
    check_sources: str = "sample"


@dataclass(frozen=True, kw_only=True)
class BudgetOptions:
    """When a run needs approval, and when it submits a row again.

    :param approve_above: ask for approval if a run may cost more than this sum. Requires Airflow 3.1 or
        later; on earlier versions, such a run submits nothing. If nobody answers within half of
        ``valid_for``, the run is not approved.
    :param max_rebuy_share: ask for approval if a run would submit more than this share of the rows (0 to 1)
        again because something about them has changed, for example a template, the encoding or the names.
        It applies to more than 10 rows. A row without a billable submit in this ``edition`` does not count. 1
        for no limit. On Airflow before 3.1, such a run submits nothing.
    :param max_attempts: number of submits without success, in all runs together, after which a row is
        quarantined, 1 to 100.
    :param collect_runs: number of runs that ask for the images of a job that does not finish, 1 to 1000; runs
        in which the service answers no query do not count. Default: three times ``max_attempts``. To ask
        again for a job that was given up, raise it: nothing is submitted by that.
    :param on_unknown_outcome: what to do if it is unknown whether a submit was accepted: ``fail`` (do not
        submit it again) or ``resubmit``, which may be billed twice.
    """

    approve_above: float | str | None = None
    max_rebuy_share: float | str = 0.2
    max_attempts: int | str = 2
    collect_runs: int | str | None = None
    on_unknown_outcome: str = "fail"


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """How images are checked before they are published.

    :param thresholds: see :class:`~airflow_provider_bgrep.catalog.config.thresholds.Thresholds`. Its
        ``label_text`` is for the words on products, which are compared if the extra ``ocr`` is installed; 0
        turns that off.
    :param fail_on_attention: the report task fails if at least this many rows need attention: a number from
        1, or a share of all rows below 1. It then also fails if the run was not approved. By default, it
        does not fail for these reasons.
    """

    thresholds: Mapping[str, Any] | str | None = None
    fail_on_attention: float | str | None = None


@dataclass(frozen=True, kw_only=True)
class PublishOptions:
    """How images are published, and when a published image is removed.

    :param filename_template: names of published files, see
        :class:`~airflow_provider_bgrep.catalog.config.filename_template.PublishRules`.
    :param keep_versions: number of versions of a row's image that are kept, 1 to 1000.
    :param keep_plans: number of latest runs of the task group whose plan folder is kept, with its report, 1
        to 10000. Older folders are deleted once the ledger contains everything that they record.
    :param on_removed: what to do with a row that is no longer in the catalog: ``retire`` (keep its
        files), ``delete`` or ``keep`` (do nothing).
    :param publish_unmasked: whether to publish images whose product could not be compared, because there is
        no mask. Otherwise, their rows need attention.
    :param max_removed_share: if a larger share of the published rows (0 to 1) disappears from the catalog
        at once, and more than one row, no row is retired or deleted.
    :param outlets: assets that are updated when something is published. Default: an asset whose URI is
        derived from the destination, such as ``bgrep://s3/shop/images``.
    :param destination_url: the ``http(s)`` URL of the destination's folder, if a web server or a CDN serves
        it. The links on the tasks lead there.
    """

    filename_template: str = PublishRules.filename_template
    keep_versions: int | str = PublishRules.keep_versions
    keep_plans: int | str = 30
    on_removed: str = PublishRules.on_removed
    publish_unmasked: bool | str = False
    max_removed_share: float | str = 0.2
    outlets: Sequence[Any] | None = None
    destination_url: str | None = None


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions:
    """How the tasks of a run divide the work, and how long they may take.

    :param shard_size: number of rows for each mapped task, 1 to 10000. It is increased if there would be
        more than 1,000 tasks.
    :param valid_for: how long a plan may submit: 60 seconds to 31 days, as seconds or a ``timedelta``.
        Choose less than the schedule's interval.
    :param max_active_shards: number of shards of a run that are active at a time. They share the
        connection's ``max_requests_per_second``.
    :param pool: the Airflow pool of the shards' tasks. It must exist.
    :param deferrable: whether shards wait in the triggerer.
    :param poll_interval: seconds between two queries of one job.
    :param timeout: seconds after which a shard's ``generate`` task fails.
    :param retry_failed: how often a failed image task is submitted again within a run, 0 to 3.
    :param single_writer: whether to accept a destination on a store that cannot exclude a second writer. Then
        only one run at a time may write to it, of one DAG, with ``max_active_runs=1``. The plan task checks
        that, and that no plan of another run may still submit. On other stores, it has no effect.
    """

    shard_size: int | str = 200
    valid_for: timedelta | float | str = timedelta(hours=20)
    max_active_shards: int = 4
    pool: str | None = None
    deferrable: bool = True
    poll_interval: timedelta | float = DEFAULT_POLL_INTERVAL
    timeout: timedelta | float = 2 * DEFAULT_TIMEOUT
    retry_failed: int = 0
    single_writer: bool | str = False


GROUPS: Final[dict[str, type[Any]]] = {
    "source": SourceOptions,
    "budget": BudgetOptions,
    "checks": CheckOptions,
    "publish": PublishOptions,
    "execution": ExecutionOptions,
}
"""The groups, by the name of the argument."""

FIXED: Final = frozenset(
    "approve_above outlets max_active_shards pool deferrable poll_interval timeout retry_failed".split()
)
"""Fields that are needed when the DAG is parsed. They cannot come from a template of the whole group;
``approve_above`` alone may be a template.
"""

_FIXED_PARSERS: Final[dict[str, Callable[[Any], Any]]] = {
    "max_active_shards": number(1, 1000, int, "1 to 1000 shards"),
    "pool": parse_text,
    "deferrable": parse_bool,
    "poll_interval": parse_positive_seconds,
    "timeout": parse_positive_seconds,
    "retry_failed": number(0, MAX_RETRY_FAILED, int, f"0 to {MAX_RETRY_FAILED}"),
}


def parse_fixed(values: Mapping[str, Any], problems: list[Problem]) -> dict[str, Any]:
    """Parse the fields in :data:`FIXED`, which are needed when the DAG is parsed.

    :param values: fields by name; others are left out. ``approve_above`` and ``outlets`` are not parsed.
    :param problems: a problem is added for each invalid value. A template is invalid, because it is rendered
        only when the task runs.
    :return: the parsed fields by name.
    """
    found: dict[str, Any] = {}
    for name in FIXED & values.keys():
        try:
            found[name] = _FIXED_PARSERS.get(name, lambda value: value)(values[name])
        except ValueError as error:
            problems.append(Problem(name, f"is {shown(values[name])}; give {error}"))
    return found


def fields_of(group: str, value: Any) -> dict[str, Any]:
    """The fields of a group, by name; those that are ``None`` are left out.

    :param group: the argument's name.
    :param value: an instance of the group's class, a mapping, JSON text or ``None``.
    :raises ValueError: with the words that follow "give".
    """
    names = [one.name for one in fields(GROUPS[group])]
    if value is None:
        return {}
    if isinstance(value, GROUPS[group]):
        found: Mapping[str, Any] = {name: getattr(value, name) for name in names}
    else:
        found = parse_mapping(value)
        unknown = [str(name) for name in found if name not in names]
        if unknown:
            raise ValueError(f"{', '.join(names)} only, not {', '.join(unknown)}")
    return {name: one for name, one in found.items() if one is not None}
