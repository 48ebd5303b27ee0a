# SPDX-License-Identifier: Apache-2.0
"""The data of the API, as immutable values: image tasks in requests, jobs in responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Any, Final

from airflow_provider_bgrep.protocol.errors import without_secret
from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS


class JobStatus(str, Enum):
    """The statuses of an image task. A job as a whole does not have a status."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"


_STATUSES: Final = frozenset(JobStatus)

FINISHED: Final = frozenset({JobStatus.SUCCESS.value, JobStatus.FAILED.value})


@dataclass(frozen=True, kw_only=True)
class ImageTask:
    """One element of the API's ``task_list``: a source image, a prompt, and the number of images to generate.

    Fields are not validated when the object is created, because in a DAG file they can be templates. The
    whole list is validated before anything is sent. The ranges come from the API documentation.

    :param image: URL of the source image, ``http`` or ``https``. Each side has 400 to 4096 pixels.
    :param positive_prompt: what the background should be, in 1 to 500 characters of Chinese or English.
    :param mask: URL of the mask, with the resolution of the image. 255 keeps the foreground.
    :param negative_prompt: what the background should not contain, in at most 500 characters.
    :param guidance_scale: prompt strength, 1 to 20.
    :param strength: repaint strength, above 0, at most 1.
    :param seed: random seed. If it is not set, the service chooses one. 0 is a valid seed.
    :param steps: number of optimization steps, 15 to 50.
    :param num_output: number of images to generate, 1 to 4. Each is billed.
    :param id: your own name for the image task, such as a sku. It is never sent.
    """

    image: str
    positive_prompt: str
    mask: str | None = None
    negative_prompt: str | None = None
    guidance_scale: float = IMAGE_TASK_FIELDS["guidance_scale"].default
    strength: float = IMAGE_TASK_FIELDS["strength"].default
    seed: int | None = None
    steps: int = IMAGE_TASK_FIELDS["steps"].default
    num_output: int = IMAGE_TASK_FIELDS["num_output"].default
    id: str | int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return a mapping without unset fields, for XCom and for the ``task_list`` of mapped tasks."""
        values = ((name, getattr(self, name)) for name in TASK_FIELD_NAMES)
        return {name: value for name, value in values if value is not None}

    def as_wire(self) -> dict[str, Any]:
        """Return the form that the API accepts: as :meth:`as_dict`, without ``id``."""
        return {name: value for name, value in self.as_dict().items() if name in IMAGE_TASK_FIELDS}


TASK_FIELD_NAMES: Final = tuple(f.name for f in fields(ImageTask))


@dataclass(frozen=True, slots=True)
class TaskResult:
    """The result of one image task.

    :param index: position in the job, from 0.
    :param status: ``WAITING``, ``RUNNING``, ``SUCCESS`` or ``FAILED``. Any other status counts as not
        finished. ``MISSING`` means that the response does not contain the image task.
    :param results: URLs of the generated images.
    :param message: the service's message; often empty.
    :param echo: the submitted fields, as the response repeats them.
    """

    index: int
    status: str
    results: tuple[str, ...] = ()
    message: str = ""
    echo: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_finished(self) -> bool:
        """Whether this image task is ``SUCCESS`` or ``FAILED``."""
        return self.status in FINISHED

    def without(self, secret: str) -> TaskResult:
        """Return the result with ``***`` instead of a secret in what is written down of it.

        URLs stay what they are, and so does every field of the echo that is only compared.
        """
        status, seed = self.status, self.echo.get("seed")
        if status not in _STATUSES:
            status = without_secret(status, secret)
        if isinstance(seed, int | float | None) and not self.message and status == self.status:
            return self
        echo = self.echo
        if not isinstance(seed, int | float | None) and secret.lower() in str(seed).lower():
            echo = {**echo, "seed": without_secret(str(seed), secret)}
        return replace(self, status=status, message=without_secret(self.message, secret), echo=echo)


@dataclass(frozen=True, slots=True)
class Job:
    """A submitted job, as one response describes it.

    :param result_key: the key that identifies the job.
    :param tasks: its image tasks, in the order of the response unless they were matched to the submitted
        list.
    :param request_id: the service's id of the request.
    :param gateway_request_id: the gateway's id of the request. Support asks for both ids.
    :param doubt: why the job may not exist: the response to its submit names it, but is an error. Only a
        query shows whether it exists. ``""`` if there is no doubt.
    :param is_named: whether the response names the job. One that does not may be about another job.
    """

    result_key: str
    tasks: tuple[TaskResult, ...]
    request_id: str = ""
    gateway_request_id: str = ""
    doubt: str = ""
    is_named: bool = True

    @property
    def is_finished(self) -> bool:
        """Whether every image task is ``SUCCESS`` or ``FAILED``; false for a job without image tasks."""
        return bool(self.tasks) and all(task.is_finished for task in self.tasks)

    def without(self, secret: str) -> Job:
        """Return the job with ``***`` instead of a secret in what the service says of it."""
        return replace(
            self,
            tasks=tuple(task.without(secret) for task in self.tasks),
            request_id=without_secret(self.request_id, secret),
            gateway_request_id=without_secret(self.gateway_request_id, secret),
        )

    @property
    def counts(self) -> dict[str, int]:
        """Number of image tasks in each status."""
        counts: dict[str, int] = {}
        for task in self.tasks:
            counts[task.status] = counts.get(task.status, 0) + 1
        return counts
