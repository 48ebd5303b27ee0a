# SPDX-License-Identifier: Apache-2.0
"""What goes over the wire, as frozen values: image tasks in requests, jobs in answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, Final

from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS


class JobStatus(str, Enum):
    """The states the API names for an image task. A job as a whole has no state of its own."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"


FINISHED: Final = frozenset({JobStatus.SUCCESS.value, JobStatus.FAILED.value})


@dataclass(frozen=True, kw_only=True)
class ImageTask:
    """One element of the API's ``task_list``: an image, a prompt, and how many results to generate.

    Nothing is validated when it is created, since a DAG file may have templates in any field. Whole lists are
    validated before anything is sent.

    :param image: URL of the source image, ``http`` or ``https``, each side 400 to 4096 px.
    :param positive_prompt: what the background should be; 1 to 500 characters, Chinese or English.
    :param mask: URL of the mask, of the image's resolution; foreground to keep is 255.
    :param negative_prompt: what the background should not show; at most 500 characters.
    :param guidance_scale: prompt strength, [1, 20].
    :param strength: repaint strength, (0, 1].
    :param seed: random seed; left out, the service draws one. 0 is a real seed.
    :param steps: optimisation steps, [15, 50].
    :param num_output: images to make, [1, 4]. Each is paid for.
    :param id: your own name for it (a sku, say). Never sent.

    The ranges are the API's document's.
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
        """The form for XCom and for the ``task_list`` of mapped tasks: fields with no value are left out."""
        values = ((name, getattr(self, name)) for name in TASK_FIELD_NAMES)
        return {name: value for name, value in values if value is not None}

    def as_wire(self) -> dict[str, Any]:
        """The form the API takes: as :meth:`as_dict`, without ``id``."""
        return {name: value for name, value in self.as_dict().items() if name in IMAGE_TASK_FIELDS}


TASK_FIELD_NAMES: Final = tuple(f.name for f in fields(ImageTask))


@dataclass(frozen=True, slots=True)
class TaskResult:
    """The result of one image task.

    :param index: position in the job, from 0.
    :param status: ``WAITING``, ``RUNNING``, ``SUCCESS`` or ``FAILED``. Any other status of the service, in
        upper case, counts as not finished; so does ``MISSING``, see :mod:`.matching`.
    :param results: URLs of the generated images, in the order of their output number.
    :param message: the service's message, often empty.
    :param echo: the submitted fields as the service repeated them.
    """

    index: int
    status: str
    results: tuple[str, ...] = ()
    message: str = ""
    echo: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_finished(self) -> bool:
        """Whether this image task is in a final state."""
        return self.status in FINISHED


@dataclass(frozen=True, slots=True)
class Job:
    """A submitted job, as one answer describes it.

    :param result_key: the job's id.
    :param tasks: its image tasks, in the answer's order unless they were matched to the submitted list.
    :param request_id: the service's id of the call.
    :param gateway_request_id: the gateway's id of the call; support asks for both.
    :param doubt: why it may not exist, in words: the answer to its submit names it, and is an error. Only a
        query decides.
    """

    result_key: str
    tasks: tuple[TaskResult, ...]
    request_id: str = ""
    gateway_request_id: str = ""
    doubt: str = ""

    @property
    def is_finished(self) -> bool:
        """Whether every image task is ``SUCCESS`` or ``FAILED``; false for a job without tasks."""
        return bool(self.tasks) and all(task.is_finished for task in self.tasks)

    @property
    def counts(self) -> dict[str, int]:
        """How many image tasks are in each status, by status."""
        counts: dict[str, int] = {}
        for task in self.tasks:
            counts[task.status] = counts.get(task.status, 0) + 1
        return counts
