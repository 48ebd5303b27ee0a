# SPDX-License-Identifier: Apache-2.0
"""The check task: compares a shard's images with their sources, and writes its results."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.catalog.check.comparison import Judgment, judge
from airflow_provider_bgrep.catalog.check.text_reader import text_reader
from airflow_provider_bgrep.catalog.model.states import RowState, Verdict
from airflow_provider_bgrep.catalog.source.images import connection_settings, fetch
from airflow_provider_bgrep.catalog.state.recovery import derive_shard
from airflow_provider_bgrep.catalog.state.results import check_storable
from airflow_provider_bgrep.exceptions import BgRepServiceError
from airflow_provider_bgrep.isolation import RowErrors
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.protocol.limits import MAX_RESULT_BYTES
from airflow_provider_bgrep.storage import get_bytes

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.config.thresholds import Thresholds
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.catalog.model.rows import ResultRow
    from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
    from airflow_provider_bgrep.connection import Settings

_AHEAD: Final = 4
"""Number of rows whose images are fetched while others are compared."""

_log = logging.getLogger(__name__)


def check_shard(store: PlanStore, shard: int, checker: Checker | None = None) -> dict[str, int]:
    """Compare the images of a shard with their sources, and write the shard's results.

    Results of an earlier check are removed first: a shard whose last check fails has none.

    :param checker: compares the images; by default, the checker of the catalog.
    :return: number of rows by verdict: ``passed``, ``flagged``, ``unmasked``, ``unchecked``; ``none`` for
        rows without images.
    :raises BgRepStateError: if a file of the plan is missing or damaged.
    :raises BgRepServiceError: if all rows fail with the same unforeseen error.
    """
    store.forget_results(shard)
    rows = derive_shard(store, shard)
    config = store.config
    if checker is None:
        checker = Checker(
            store.paths,
            config.checks,
            config.source_conn_id or None,
            connection_settings(config.bgrep_conn_id),
            allow_private=config.allow_private_sources,
        )
    errors = RowErrors()
    counts: Counter[str] = Counter(passed=0, flagged=0, unmasked=0, unchecked=0, none=0)

    def checked() -> Iterator[ResultRow]:
        with ThreadPoolExecutor(_AHEAD) as threads:
            for start in range(0, len(rows), _AHEAD):
                some = rows[start : start + _AHEAD]
                fetched = threads.map(lambda row: _fetch_row(checker, row), some)
                for row, images in zip(some, fetched, strict=True):
                    result = row.copy()  # thumbnails are not kept in memory
                    if result["state"] != RowState.ORPHANED.value:  # its images are not published
                        _check_row(checker, result, images, errors)
                    # The signatures of the catalog must not be stored longer than necessary.
                    result["image_url"] = result["mask_url"] = ""
                    counts[result["verdict"] or "none"] += not result["superseded"]
                    yield result
        if errors.shared:
            raise BgRepServiceError(
                f"The images of shard {shard} cannot be checked: {errors.shared}. They stay unpublished "
                "until they are checked. Correct the cause and clear this task, or start the next run."
            )

    store.write_results(shard, checked())
    _log.info(
        "Checked shard %d: %s", shard, ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    )
    return dict(counts)


def _fetch_row(checker: Checker, row: ResultRow) -> Images | Exception:
    """Return the images of a row, or why they cannot be read."""
    try:
        return checker.fetch(row)
    except Exception as error:  # whatever its class: see isolation.py
        return error


def _check_row(checker: Checker, row: ResultRow, images: Images | Exception, errors: RowErrors) -> None:
    """Fill in the verdict of a row; ``unchecked`` with the reason if the check raises an exception."""
    try:
        if isinstance(images, Exception):
            raise images
        checked = row.copy()
        checker.check(checked, images)
        check_storable(checked)
    except Exception as error:  # whatever its class: see isolation.py
        if row["files"]:
            why = errors.failed(error)
            _log.warning("Could not check row %s: %s", row["name"], why)
            row["verdict"], row["chosen"] = Verdict.UNCHECKED.value, None
            row["flags"] = json.dumps([f"the row could not be checked: {why}"], ensure_ascii=False)
            row["scores"] = "[]"
    else:
        row.update(checked)
        errors.passed(bool(row["files"]))


@dataclass(frozen=True, slots=True)
class Images:
    """The images of a row, encoded.

    :param source: the source image, ``None`` if it could not be fetched.
    :param mask: the mask, if the row has one.
    :param candidates: the output images; ``b""`` for one that is missing or damaged, ``None`` for one that
        retention deletes.
    :param why_no_source: why the source could not be fetched.
    :param lost: one text for each output image that is missing or has changed: its path and what is wrong.
    """

    source: bytes | None = None
    mask: bytes | None = None
    candidates: tuple[bytes | None, ...] = ()
    why_no_source: str = ""
    lost: tuple[str, ...] = ()


class Checker:
    """Fetches the images of a row, and compares them.

    :param paths: the destination's paths.
    :param thresholds: the thresholds of the scores.
    :param conn_id: the connection for sources on object storage.
    :param settings: the ``bgrep`` connection, for its proxies and its CA bundle; ``None`` for none.
    :param allow_private: whether sources may be fetched from private addresses.
    """

    def __init__(
        self,
        paths: CatalogPaths,
        thresholds: Thresholds,
        conn_id: str | None,
        settings: Settings | None = None,
        *,
        allow_private: bool = False,
    ) -> None:
        self._paths, self._thresholds = paths, thresholds
        self._conn_id, self._settings, self._allow_private = conn_id, settings, allow_private

    def fetch(self, row: ResultRow) -> Images:
        """Return the images of a row."""
        found = [
            self._read(file, is_expendable=_is_expendable(row, place))
            for place, file in enumerate(json.loads(row["files"] or "[]"))
        ]
        if not found:
            return Images()
        # A missing or damaged image is handled like one that cannot be decoded.
        candidates = tuple(data for data, _ in found)
        lost = tuple(problem for _, problem in found if problem)
        try:
            source = self._fetched(row["image_url"] or row["image"])
            mask_url = row["mask_url"] or row["mask"]
            mask = self._fetched(mask_url) if mask_url else None
        except (OSError, ValueError) as error:
            return Images(candidates=candidates, why_no_source=sanitize_message(error), lost=lost)
        return Images(source, mask, candidates, lost=lost)

    def _fetched(self, url: str) -> bytes:
        return fetch(url, self._conn_id, MAX_RESULT_BYTES, self._settings, allow_private=self._allow_private)

    def _read(self, file: Mapping[str, Any], *, is_expendable: bool) -> tuple[bytes | None, str]:
        """Return a saved image and ``""``, or ``b""`` and what is wrong with the image.

        :param is_expendable: whether retention may have deleted it: if it has, ``None`` and ``""``.
        """
        data = get_bytes(self._paths.image(file["path"]))
        if data is None and is_expendable:
            return None, ""
        if data is None:
            return b"", f"{file['path']} does not exist any more"
        if hashlib.sha256(data).hexdigest() != file.get("sha256", ""):
            return b"", f"{file['path']} has changed since it was saved"
        return data, ""

    def check(self, row: ResultRow, images: Images) -> None:
        """Add the verdict and the thumbnails to a row."""
        if not images.candidates:
            return
        found: Judgment = judge(
            images.source,
            images.mask,
            images.candidates,
            self._thresholds,
            why_no_source=images.why_no_source,
            reader=text_reader() if self._thresholds.label_text else None,
        )
        verdict, flags = found.verdict, found.flags
        if images.lost:
            flags = [*flags, *(f"{problem}; restore it from a backup" for problem in images.lost)]
        if images.lost and not any(images.candidates):
            verdict = Verdict.UNCHECKED  # the images may be restored
        row["verdict"] = verdict.value
        row["chosen"] = found.chosen
        row["flags"] = json.dumps(flags, ensure_ascii=False)
        row["scores"] = json.dumps(found.scores, ensure_ascii=False)
        row["thresholds"] = self._thresholds.to_json()
        row["thumb_source"] = found.thumbs.source
        row["thumb_mask"] = found.thumbs.mask
        row["thumb_candidates"] = list(found.thumbs.candidates)


def _is_expendable(row: ResultRow, place: int) -> bool:
    """Whether retention may have deleted an image: another one was chosen when the row was checked before.

    :param place: the index of the image.
    """
    has_passed = row["verdict"] in (Verdict.PASSED.value, Verdict.UNMASKED.value)
    return has_passed and row["chosen"] not in (None, place)
