# SPDX-License-Identifier: Apache-2.0
"""The one table of the API's limits and of our defaults.

Validation, the emulator, the trigger form of the example DAGs, the reference pages and the tests
read these; none of them repeats a number. ``source`` says where a number comes from: ``document``
is the API's own document, ``gateway`` the API gateway's public pages, ``ours`` a choice made here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an image task, as the API takes it.

    :param name: the API's field name.
    :param kind: ``url``, ``text``, ``float`` or ``integer``.
    :param required: whether the API demands the field on the wire.
    :param default: what :class:`ImageTask` sends when nothing was said; ``None`` leaves an
        optional field out.
    :param minimum: smallest allowed number.
    :param maximum: largest allowed number, or for text the most Unicode code points.
    :param exclusive_minimum: whether ``minimum`` itself is refused.
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
        """The allowed range in words and interval notation, empty where there is none."""
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
            "URL of the mask, of the image's resolution: black and white in three channels or in "
            "one (foreground to keep 255, background to generate 0), or RGBA whose alpha is the mask.",
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
            "What the background should not hold, in Chinese or English.",
            maximum=500,
        ),
        Field(
            "guidance_scale",
            "float",
            True,
            "Prompt strength: higher follows the prompt more, too high hurts quality.",
            default=7.5,
            minimum=1,
            maximum=20,
        ),
        Field(
            "strength",
            "float",
            True,
            "Repaint strength: higher changes more of the source.",
            default=0.5,
            minimum=0,
            maximum=1,
            exclusive_minimum=True,
        ),
        Field(
            "seed",
            "integer",
            False,
            "Random seed; left out, the service draws one. 0 is a real seed.",
        ),
        Field("steps", "integer", True, "Optimization steps.", default=50, minimum=15, maximum=50),
        Field("num_output", "integer", True, "Images per image task.", default=1, minimum=1, maximum=4),
    )
}

MIN_TASKS: Final = 1
MAX_TASKS: Final = 10
"""Image tasks in one job. Source: document."""

MIN_SIDE: Final = 400
MAX_SIDE: Final = 4096
"""Pixels of each side of an image. Source: document."""

IMAGE_FORMATS: Final = ("JPEG", "PNG", "WEBP")
"""Formats the document names; it adds "and other common formats". Names are Pillow's."""

URL_SCHEMES: Final = ("http", "https")

SUBMIT_PATH: Final = "/api/v1/bg-rep/submit"
QUERY_PATH: Final = "/api/v1/bg-rep/query"

APPCODE_PREFIX: Final = "APPCODE "
"""What stands before the AppCode in ``Authorization``, its one space included. Source: document."""

NONCE_WINDOW_SECONDS: Final = 15 * 60
"""How long the gateway remembers a nonce. Source: gateway."""

BREAKER_OPEN_SECONDS: Final = 90
"""How long the gateway's breaker stays open (``D503CB``). Source: gateway."""

MAX_REQUEST_BYTES: Final = 2 * 1024 * 1024
"""Smallest body limit seen in front of the API (2 to 8 MB). Source: gateway."""

MAX_HEADER_BYTES: Final = 8 * 1024
"""URL and headers of a request together. Source: gateway."""

MAX_RESPONSE_BYTES: Final = 8 * 1024 * 1024
"""More than this is not an answer of the API: ten image tasks echo at most some 100 KB. Source: ours."""

MAX_RESULT_BYTES: Final = 256 * 1024 * 1024
"""Default cap of one downloaded image: 4096 x 4096 pixels, 4 channels, 4 bytes each. Source: ours."""

RESULT_URL_SECONDS: Final = 30 * 60
"""How long a result URL is assumed to stay readable (the document is silent). Source: gateway."""

DEFAULT_POLL_INTERVAL: Final = 15.0
"""Seconds between two queries of one job. Source: ours; the document names no rate limit."""

DEFAULT_TIMEOUT: Final = 60 * 60.0
"""Seconds a waiter waits for a job. Source: ours; the document does not say how long a job takes."""

DEFAULT_HTTP_TIMEOUT: Final = 60.0
"""Seconds one HTTP attempt may take. Source: ours; the backend's timeout is the provider's choice."""
