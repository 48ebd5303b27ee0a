# SPDX-License-Identifier: Apache-2.0
"""The contents of a journal: one record for each submit, and the metadata of the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from airflow_provider_bgrep.protocol.errors import reason_of


class SupersededError(Exception):
    """Another process has taken over the task instance, or the plan has ended: submit nothing more."""


class JournalError(ValueError):
    """A journal cannot be read.

    :param what: what is wrong with it.
    :param file: the file, or the key in the store.
    :param location: the folder, or the store's name.
    """

    def __init__(self, what: str, *, file: str = "", location: str = "") -> None:
        self.what, self.file, self.location = what, file, location
        where = " in ".join(filter(None, (file, location))) or "the journal"
        super().__init__(
            f"Cannot read {where}: {what}. The journal records what is billable, so nothing was submitted. "
            "Restore the file from a backup. If there is none, check the bill details in the cloud console, "
            "then move the journal away: the task starts a new one, and submits the list again."
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (_journal_error, (self.what, self.file, self.location))


def _journal_error(what: str, file: str, location: str) -> JournalError:
    return JournalError(what, file=file, location=location)


class State(str, Enum):
    """The state of a submit."""

    INTENT = "intent"
    """It was about to be sent. For a later epoch, this means that the outcome is unknown."""
    ACCEPTED = "accepted"
    """The ``result_key`` is known."""
    REFUSED = "refused"
    """It was certainly not accepted, and may be submitted again."""
    UNKNOWN = "unknown"
    """The response was lost."""


@dataclass(frozen=True, slots=True)
class SubmittedTask:
    """One image task of a submit.

    :param key: its identity, see :func:`~airflow_provider_bgrep.protocol.identity.identities`.
    :param images: number of images that it requests.
    :param id: the user's own name for it, at most 100 characters.
    :param image_digest: digest of the source image's URL as it was sent, which distinguishes its results from
        others; see :func:`~airflow_provider_bgrep.protocol.identity.url_digest`.
    :param mask_digest: the same for the mask.
    """

    key: str
    images: int = 1
    id: str = ""
    image_digest: str = ""
    mask_digest: str = ""

    def to_json(self) -> list[Any]:
        """The stored form."""
        digests = [self.image_digest, self.mask_digest] if self.image_digest else []
        return [self.key, self.images, self.id, *digests]

    @classmethod
    def from_json(cls, value: Sequence[Any]) -> SubmittedTask:
        """The image task from its stored form.

        :raises TypeError: if it is damaged.
        """
        if len(value) == 4:
            raise TypeError("an image task has one digest instead of two")
        return cls(*value)


@dataclass(frozen=True, slots=True)
class SubmitRecord:
    """One submit.

    :param state: its state.
    :param at: when it was last sent, ISO 8601 in UTC.
    :param items: its image tasks, in the order sent.
    :param account: the connection that it was sent with.
    :param regenerate_key: what distinguishes it from submits before ``regenerate``; empty without that.
    :param try_number: Airflow's number of the try that sent it.
    :param nonce: the nonce of the request, by which support can find it.
    :param result_key: the job's key, once accepted.
    :param request_id: the service's id of the request, if it responded.
    :param gateway_request_id: the gateway's id of the request, if it responded.
    :param code: the error code of a refusal or of a lost response.
    :param http_status: the HTTP status of that error.
    :param reason: the message of that error.
    :param replaced: the nonce of the attempt before, which was certainly not accepted. Somebody may have read
        its intent.
    """

    state: State
    at: str
    items: tuple[SubmittedTask, ...]
    account: str = ""
    regenerate_key: str = ""
    try_number: int = 1
    nonce: str = ""
    result_key: str = ""
    request_id: str = ""
    gateway_request_id: str = ""
    code: str = ""
    http_status: int | None = None
    reason: str = ""
    replaced: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """The identities of its image tasks."""
        return tuple(item.key for item in self.items)

    @property
    def images(self) -> int:
        """Number of images that it requests."""
        return sum(item.images for item in self.items)

    def to_json(self) -> dict[str, Any]:
        """The stored form."""
        items = [item.to_json() for item in self.items]
        values = {**asdict(self), "state": self.state.value, "items": items}
        return {name: value for name, value in values.items() if value}

    @classmethod
    def from_json(cls, value: Any) -> SubmitRecord:
        """The record from its stored form.

        :raises JournalError: if it is damaged. A record that cannot be read is never skipped.
        """
        try:
            known = {name: value[name] for name in cls.__dataclass_fields__ if name in value}
            items = tuple(map(SubmittedTask.from_json, value["items"]))
            record = cls(**{**known, "state": State(value["state"]), "items": items})
        except (KeyError, TypeError, ValueError) as error:
            raise JournalError(f"a record is damaged ({reason_of(error)})") from None
        if record.state is State.ACCEPTED and not record.result_key:
            raise JournalError("an accepted job has no result_key")
        return record


@dataclass(frozen=True, slots=True)
class TaskMetadata:
    """The metadata of the task as a whole.

    :param clear_id: distinguishes the task instance before a clear from the same one after it. Retries and
        deferrals do not change it.
    :param end_time: the deadline, in seconds of the clock of the process that set it.
    :param first_try: Airflow's number of the first try since the last clear.
    :param counts: calls since the last clear, by operation.
    :param stopped: the response after which nothing more is submitted until the next clear, if there was
        one.
    :param first_epoch: the first epoch since the last clear.
    :param is_answered: whether the service has ever answered a query of the task with something about a job.
    """

    clear_id: str = ""
    end_time: float = 0.0
    first_try: int = 1
    counts: Mapping[str, int] = field(default_factory=dict)
    stopped: Mapping[str, Any] | None = None
    first_epoch: int = 0
    is_answered: bool = False
