# SPDX-License-Identifier: Apache-2.0
"""Matches the image tasks of a response to the submitted ones. Pure functions.

The API does not promise an order, so the tasks of a response are matched by the fields that they echo:

1. An echoed ``image`` decides. A result is never assigned to a submitted task with another image.
2. Among submitted tasks with the same image, the other echoed fields decide. Equal submitted tasks get their
   results in the order of the response.
3. A result may belong to a submitted task whose fields are not known, unless the digest of its image, or an
   echo of everything that was sent for another one, excludes that.
4. Tasks that the echoes leave open are matched by elimination.
5. Tasks that are still open are reported, never guessed.
6. Position counts only if no task of a complete response echoes anything. A response that echoes too little
   to tell unequal tasks apart may have another order.
7. A response that does not name its job may be about another job of the same images: its tasks are matched
   only if no echoed field contradicts what was sent.

An echo may have another form than the submitted value: numbers as text or as 32-bit floats, text with
other white space, URLs with another signature or percent-encoding. A field that is missing, empty or
unreadable is ignored.
"""

from __future__ import annotations

import math
import struct
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from airflow_provider_bgrep.protocol.identity import url_digest
from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS
from airflow_provider_bgrep.protocol.models import ImageTask, Job, TaskResult
from airflow_provider_bgrep.protocol.urls import canonical_url

MISSING: Final = "MISSING"
"""Status of a submitted task to which no task of the response is matched. It counts as not finished."""

Fits: TypeAlias = Mapping[int, frozenset[int]]
"""By position in the answer, the indexes of the submitted tasks that a task may belong to."""


@dataclass(frozen=True, slots=True)
class UnknownTask:
    """A submitted image task whose fields are not known here, or not any more.

    :param image_digest: see :func:`~airflow_provider_bgrep.protocol.identity.url_digest`; ``""`` if it is not
        known either.
    """

    image_digest: str = ""

    def may_echo(self, image: Any) -> bool:
        """Return whether a task of a response that echoes this image may be this one's.

        :param image: as the response gives it.
        """
        return not self.image_digest or (isinstance(image, str) and url_digest(image) == self.image_digest)


class UnmatchedError(Exception):
    """Tasks of a response cannot be matched to the submitted ones.

    :param result_key: the job.
    :param problems: one sentence for each task of the response that is not matched.
    :param may_pass: whether image tasks are only left out, which another response may contain.
    """

    def __init__(self, result_key: str, problems: Sequence[str], *, may_pass: bool = False) -> None:
        self.result_key, self.problems, self.may_pass = result_key, tuple(problems), may_pass
        super().__init__(f"job {result_key}: {'; '.join(problems)}")


@dataclass(frozen=True, slots=True)
class Matching:
    """A response, matched as far as possible without a guess.

    :param job: the job with one task for each submitted one, in their order. The status is
        :data:`MISSING` if no task of the response certainly belongs to it.
    :param problems: one sentence for each task of the response that is not matched.
    """

    job: Job
    problems: tuple[str, ...] = ()

    def checked(self) -> Job:
        """Return the job, if it is matched completely.

        :raises UnmatchedError: if a task of the response is not matched, or if all tasks of the response
            are finished, but some submitted ones are missing.
        """
        named = [task for task in self.job.tasks if task.status != MISSING]
        problems, are_left_out = list(self.problems), False
        if named and len(named) < len(self.job.tasks) and all(task.is_finished for task in named):
            are_left_out = True
            problems.append(
                f"the response contains {len(named)} of {len(self.job.tasks)} submitted image tasks"
            )
        if problems:
            raise UnmatchedError(self.job.result_key, problems, may_pass=are_left_out and not self.problems)
        return self.job


def match(job: Job, submitted: Sequence[ImageTask | UnknownTask]) -> Matching:
    """Match a job's tasks to the submitted ones.

    :param job: the job as the response describes it.
    :param submitted: the image tasks as submitted, in their order.
    """
    wanted = [_readable(task.as_wire()) if isinstance(task, ImageTask) else None for task in submitted]
    echoes = [readable_echo(task) for task in job.tasks]
    fits = [
        _fitting(echo, task.echo, wanted, submitted, is_named=job.is_named)
        for echo, task in zip(echoes, job.tasks, strict=True)
    ]
    if echoes_nothing(job) and len(job.tasks) == len(submitted):
        matched = {position: position for position in range(len(submitted))}
    else:
        matched = _assign(fits, wanted)
    tasks = [TaskResult(index, MISSING) for index in range(len(submitted))]
    problems = []
    for position, task in enumerate(job.tasks):
        index = matched.get(position)
        if index is None:
            problems.append(_problem(position, fits[position]))
        else:
            tasks[index] = replace(task, index=index)
    return Matching(replace(job, tasks=tuple(tasks)), tuple(problems))


def echoes_nothing(job: Job) -> bool:
    """Return whether no task of a response echoes a submitted field, so that only its position is known."""
    return not any(map(readable_echo, job.tasks))


def readable_echo(task: TaskResult) -> dict[str, Any]:
    """Return the submitted fields that a task of a response echoes, each in one form."""
    echo = _readable(task.echo)
    return _UNREADABLE if echo is None else echo


def echoed_task(echo: Mapping[str, Any]) -> ImageTask | None:
    """Return the image task that an echo describes, normalized; ``None`` if the echo is incomplete."""
    values = _normalized(echo)
    if "image" not in values or "positive_prompt" not in values:
        return None
    values |= {name: echo[name] for name in ("image", "mask") if name in values}
    return ImageTask(**values)


# --- which submitted task an echo fits ------------------------------------------------------------


def _normalized(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that are present, each in one form."""
    values = {name: _FORMS[field.kind](fields.get(name)) for name, field in IMAGE_TASK_FIELDS.items()}
    return {name: value for name, value in values.items() if value is not None}


def _readable(fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the fields, each in one form; ``None`` if that fails: the others are matched nevertheless."""
    try:
        return _normalized(fields)
    except Exception:  # whatever its class: see isolation.py
        return None


_UNREADABLE: Final[dict[str, Any]] = {"image": ""}
"""Stands for an echo that cannot be read: the image of no submitted task."""


def _url(value: Any) -> str | None:
    return canonical_url(value) if isinstance(value, str) and value.strip() else None


def _text(value: Any) -> str | None:
    return " ".join(unicodedata.normalize("NFC", value).split()) or None if isinstance(value, str) else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(number):
        return None
    # 0.7 as a 32-bit float is 0.699999988…: seven digits are what such a float has.
    short = float(f"{number:.7g}")
    return short if _float32(short) == _float32(number) else number


def _float32(number: float) -> float:
    try:
        return float(struct.unpack("f", struct.pack("f", number))[0])
    except OverflowError:
        return number


def _integer(value: Any) -> int | None:
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            value = _number(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -(2**64) < value < 2**64:
        return None
    return int(value) if value == int(value) else None


_FORMS: Final = {"url": _url, "text": _text, "float": _number, "integer": _integer}


def _same(name: str, echoed: Any, wanted: Any) -> bool:
    if echoed == wanted:
        return True
    if name == "seed":
        # As JavaScript's number, a large seed loses its last digits.
        return max(abs(echoed), abs(wanted)) > _EXACT and float(echoed) == float(wanted)
    return IMAGE_TASK_FIELDS[name].kind == "float" and math.isclose(echoed, wanted, rel_tol=1e-6)


_EXACT: Final = 2**53


def _fitting(
    echo: Mapping[str, Any],
    raw: Mapping[str, Any],
    wanted: Sequence[Mapping[str, Any] | None],
    submitted: Sequence[ImageTask | UnknownTask],
    *,
    is_named: bool,
) -> frozenset[int]:
    """Return the submitted tasks that a task of the response may belong to."""
    unknown = {index for index, fields in enumerate(wanted) if fields is None}
    known = {index: fields for index, fields in enumerate(wanted) if fields is not None}
    if "image" in echo:
        unknown = {index for index in unknown if _may_echo(submitted[index], raw.get("image"))}
        known = {index: fields for index, fields in known.items() if fields["image"] == echo["image"]}
        if len(known) == 1 and not unknown and is_named:
            # It is a task of this job, and no other one has this image, whatever else the service changed.
            return frozenset(known)
    fits = {
        index: sum(name in fields for name in echo)
        for index, fields in known.items()
        if all(_same(name, echo[name], value) for name, value in fields.items() if name in echo)
    }
    # An echo with a mask, or with the very seed that was asked for, is not that of the task without one.
    most = max(fits.values(), default=0)
    best = {index for index, count in fits.items() if count == most}
    if best and all(_is_whole(echo, known[index]) for index in best):
        unknown = set()
    if "image" in echo:
        best = {index for index in best if _sent_image(submitted[index]) == raw.get("image")} or best
    return frozenset(best | unknown)


def _may_echo(task: ImageTask | UnknownTask, image: Any) -> bool:
    # What was sent for a task whose fields cannot be read here may look like anything.
    return task.may_echo(image) if isinstance(task, UnknownTask) else True


def _sent_image(task: ImageTask | UnknownTask) -> str | None:
    return task.image if isinstance(task, ImageTask) else None


def _is_whole(echo: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    """Return whether an echo that contradicts nothing has every field that was sent, and no other one."""
    return fields.keys() == echo.keys()


# --- the assignment -------------------------------------------------------------------------------


def _assign(fits: Sequence[frozenset[int]], wanted: Sequence[Mapping[str, Any] | None]) -> dict[int, int]:
    """Return the certain part of the assignment: submitted indexes by position in the response."""
    placeable = _placeable(fits)
    equal = _equal(wanted)
    certain: dict[int, list[int]] = {}
    for position, fit in placeable.items():
        possible = [index for index in sorted(fit) if _completes(_given(placeable, position, index))]
        if len({equal[index] for index in possible}) == 1:
            certain[position] = possible
    matched: dict[int, int] = {}
    for position, possible in certain.items():
        for index in sorted(possible, key=lambda index: (index != position, index)):
            trial = _given(placeable, position, index)
            if _completes(trial):
                placeable, matched[position] = trial, index
                break
    return matched


def _given(fits: Fits, position: int, index: int) -> Fits:
    """Return the fits after a submitted task is assigned to a task of the response."""
    return {other: frozenset({index}) if other == position else fit - {index} for other, fit in fits.items()}


def _completes(fits: Fits) -> bool:
    """Return whether every task of the response can have its own submitted task (by augmenting paths)."""
    owner: dict[int, int] = {}

    def place(position: int, seen: set[int]) -> bool:
        for index in fits[position]:
            if index not in seen:
                seen.add(index)
                if index not in owner or place(owner[index], seen):
                    owner[index] = position
                    return True
        return False

    return all(place(position, set()) for position in fits)


def _placeable(fits: Sequence[frozenset[int]]) -> Fits:
    """Return the fits of the tasks, without those that compete for too few submitted tasks."""
    groups: list[tuple[dict[int, frozenset[int]], frozenset[int]]] = []
    for position, fit in enumerate(fits):
        joined = [group for group in groups if group[1] & fit]
        groups = [group for group in groups if not group[1] & fit]
        members = {position: fit}
        for group in joined:
            members |= group[0]
        groups.append((members, fit.union(*(group[1] for group in joined))))
    placeable = [members for members, _ in groups if _completes(members)]
    return {position: fits[position] for position in sorted(one for group in placeable for one in group)}


def _equal(wanted: Sequence[Mapping[str, Any] | None]) -> list[int]:
    """Return, for each submitted task, the index of the first task that is equal to it."""
    first: list[int] = []
    for index, fields in enumerate(wanted):
        same = (i for i in range(index) if fields is not None and wanted[i] == fields)
        first.append(next(same, index))
    return first


def _problem(position: int, fit: frozenset[int]) -> str:
    where = f"task {position} of the response"
    if not fit:
        return f"{where} does not fit any submitted image task"
    indexes = ", ".join(map(str, sorted(fit)))
    return f"{where} fits several submitted image tasks: {indexes}"
