# SPDX-License-Identifier: Apache-2.0
"""The table of the API's limits and of this provider's defaults.

Validation, the emulator, the trigger form of the example DAGs, the documentation and the tests read this
table, and do not repeat its numbers. ``source`` says where a number comes from: ``document`` is the API
documentation, ``gateway`` the public documentation of the API gateway, ``ours`` a choice of this project.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an image task, as the API defines it.

    :param name: the API's field name.
    :param kind: ``url``, ``text``, ``float`` or ``integer``.
    :param required: whether the API requires the field.
    :param default: what :class:`ImageTask` sends if the field is not set; ``None`` omits an optional field.
    :param minimum: smallest allowed number.
    :param maximum: largest allowed number; for text, the largest number of Unicode code points.
    :param exclusive_minimum: whether ``minimum`` itself is not allowed.
    :param meaning: one sentence for people.
    :param source: where the range comes from.
    """

    name: str
    kind: str
    required: bool
    meaning: str
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    source: str = "document"

    @property
    def range(self) -> str:
        """The allowed range, in words or as an interval."""
        if self.kind == "url":
            return "an http or https URL"
        if self.kind == "text":
            lowest = "1" if self.required else "0"
            return f"{lowest} to {self.maximum:g} characters"
        if self.minimum is None and self.maximum is None:
            return "any integer"
        left = "(" if self.exclusive_minimum else "["
        return f"{left}{self.minimum:g}, {self.maximum:g}]"


IMAGE_TASK_FIELDS: Final[dict[str, Field]] = {
    field.name: field
    for field in (
        Field("image", "url", True, "URL of the source image."),
        Field(
            "mask",
            "url",
            False,
            "URL of the mask, with the resolution of the image. It is black and white with one or three "
            "channels (255: foreground to keep, 0: background to generate), or RGBA with the mask as its "
            "alpha channel.",
        ),
        Field(
            "positive_prompt",
            "text",
            True,
            "What the background should be, in Chinese or English.",
            maximum=500,
        ),
        Field(
            "negative_prompt",
            "text",
            False,
            "What the background should not contain, in Chinese or English.",
            maximum=500,
        ),
        Field(
            "guidance_scale",
            "float",
            True,
            "Prompt strength. A higher value follows the prompt more closely, but can reduce quality.",
            default=7.5,
            minimum=1,
            maximum=20,
        ),
        Field(
            "strength",
            "float",
            True,
            "Repaint strength. A higher value changes more of the source image.",
            default=0.5,
            minimum=0,
            maximum=1,
            exclusive_minimum=True,
        ),
        Field(
            "seed",
            "integer",
            False,
            "Random seed. If it is not set, the service chooses one. 0 is a valid seed.",
        ),
        Field("steps", "integer", True, "Number of optimization steps.", default=50, minimum=15, maximum=50),
        Field(
            "num_output", "integer", True, "Number of images to generate.", default=1, minimum=1, maximum=4
        ),
    )
}

MIN_SEED: Final = -(2**63)
MAX_SEED: Final = 2**63 - 1
"""Seeds that fit in 64 bits. Source: ours."""

MIN_TASKS: Final = 1
MAX_TASKS: Final = 10
"""Image tasks in one job. Source: document."""

MIN_SIDE: Final = 400
MAX_SIDE: Final = 4096
"""Pixels of each side of an image. Source: document."""

IMAGE_FORMATS: Final = ("JPEG", "PNG", "WEBP")
"""Formats that the API documentation names; it adds "and other common formats". The names are Pillow's."""

URL_SCHEMES: Final = ("http", "https")

SUBMIT_PATH: Final = "/api/v1/bg-rep/submit"
QUERY_PATH: Final = "/api/v1/bg-rep/query"

APPCODE_PREFIX: Final = "APPCODE "
"""Prefix of the AppCode in ``Authorization``, with its space. Source: document."""

NONCE_WINDOW_SECONDS: Final = 15 * 60
"""Seconds for which the gateway remembers a nonce. Source: gateway."""

BREAKER_OPEN_SECONDS: Final = 90
"""Seconds for which the gateway's circuit breaker stays open (``D503CB``). Source: gateway."""

MAX_REQUEST_BYTES: Final = 2 * 1024 * 1024
"""Largest body of a request: the lowest of the limits that the gateway may have (2 to 8 MB). Source:
gateway."""

MAX_HEADER_BYTES: Final = 8 * 1024
"""Largest size of the URL and the headers of a request together. Source: gateway."""

MAX_RESPONSE_BYTES: Final = 8 * 1024 * 1024
"""Largest response. Ten image tasks echo at most about 100 KB. Source: ours."""

MAX_RESULT_BYTES: Final = 256 * 1024 * 1024
"""Default size limit of one downloaded image: 4096 x 4096 pixels, 4 channels, 4 bytes each. Source: ours."""

RESULT_URL_SECONDS: Final = 30 * 60
"""Seconds for which a result URL is assumed to be valid; the API documentation does not say. Source:
gateway."""

DEFAULT_POLL_INTERVAL: Final = 15.0
"""Seconds between two queries of one job. Source: ours; the API documentation does not name a rate limit."""

DEFAULT_TIMEOUT: Final = 60 * 60.0
"""Seconds to wait for a job. Source: ours; the API documentation does not say how long a job takes."""

DEFAULT_HTTP_TIMEOUT: Final = 60.0
"""Seconds that one HTTP attempt may take. Source: ours; the API's seller chooses the gateway's."""
