# SPDX-License-Identifier: Apache-2.0
"""A request as it came, and the answer to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final
from urllib.parse import unquote

SECRET_HEADERS: Final = frozenset({"authorization", "x-oss-security-token"})
SECRET_PARAMETERS: Final = frozenset(
    {"x-oss-signature", "x-oss-security-token", "Signature", "security-token"}
)


@dataclass
class Request:
    """A request.

    :param method: the HTTP method.
    :param path: the path as it came, encoded.
    :param query_string: the query as it came, encoded.
    :param headers: the headers, with names in lower case.
    :param host: the host without the port.
    :param bucket: the bucket that the host stands for, or ``None``.
    :param body: the body.
    """

    method: str
    path: str
    query_string: str
    headers: Mapping[str, str]
    host: str
    bucket: str | None = None
    body: bytes = b""

    @cached_property
    def key(self) -> str:
        """The object's key; an empty text if the request is about the bucket."""
        return unquote(self.path.removeprefix("/"))

    @cached_property
    def parameters(self) -> list[tuple[str, str]]:
        """The decoded parameters in their order. A parameter without a value has an empty one."""
        pairs = (one.partition("=") for one in self.query_string.split("&") if one)
        return [(unquote(name), unquote(value)) for name, _, value in pairs]

    @cached_property
    def query(self) -> dict[str, str]:
        """The decoded parameters."""
        return dict(self.parameters)

    def header(self, name: str) -> str:
        """Return a header, or an empty text.

        :param name: its name in lower case.
        """
        return self.headers.get(name, "")


@dataclass
class Answer:
    """An answer.

    :param cut: after how many bytes of the body the connection is cut; -1 for a connection that is reset
        before anything is sent; ``None`` for an answer that arrives.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None


@dataclass(frozen=True)
class RecordedRequest:
    """What was asked, without secrets, and how it was answered.

    :param operation: the name of the operation, such as ``PutObject``.
    :param host: the host without the port, which shows the endpoint that was used.
    :param query: the parameters, without signatures and security tokens.
    :param headers: the headers with names in lower case, without signatures and security tokens.
    :param status: the HTTP status; 0 if the connection was reset.
    :param code: the code of the error, or an empty text.
    """

    operation: str
    method: str
    host: str
    bucket: str | None
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    size: int
    status: int
    code: str

    @classmethod
    def of(cls, request: Request, operation: str, status: int, code: str) -> RecordedRequest:
        """Return the record of a request that has been answered."""
        without: dict[str, Any] = {
            "query": {name: value for name, value in request.query.items() if name not in SECRET_PARAMETERS},
            "headers": {name: value for name, value in request.headers.items() if name not in SECRET_HEADERS},
        }
        return cls(
            operation,
            request.method,
            request.host,
            request.bucket,
            request.key,
            size=len(request.body),
            status=status,
            code=code,
            **without,
        )
