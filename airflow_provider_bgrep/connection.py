# SPDX-License-Identifier: Apache-2.0
"""The fields of a ``bgrep`` connection, in one table, and the parser that turns them into settings.

The form in the UI (``conn-fields`` on Airflow 3, the hook's form methods on 2.11), the documentation and
the parser read this table. Nothing here depends on Airflow: a connection is passed as plain values.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from airflow_provider_bgrep.protocol.codes import Operation
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem
from airflow_provider_bgrep.protocol.limits import DEFAULT_HTTP_TIMEOUT, QUERY_PATH, SUBMIT_PATH

CONNECTION_TYPE: Final = "bgrep"
DEFAULT_CONNECTION_ID: Final = "bgrep_default"
HOOK_NAME: Final = "Background generation (bg-rep)"
HOOK_CLASS: Final = "airflow_provider_bgrep.hooks.bgrep.BgRepHook"


@dataclass(frozen=True, slots=True)
class Extra:
    """One extra of the connection.

    :param name: its key.
    :param label: its label in the form.
    :param description: its meaning, in one sentence.
    :param types: JSON schema types for the form. Besides ``null``, only one is given: for several,
        Airflow shows a JSON editor, although the parser accepts text.
    :param placeholder: what the empty field of the form shows.
    """

    name: str
    label: str
    description: str
    types: tuple[str, ...]
    placeholder: str = ""


EXTRAS: Final[dict[str, Extra]] = {
    extra.name: extra
    for extra in (
        Extra(
            "timeout",
            "Timeout (seconds)",
            "Seconds that one HTTP attempt may take.",
            ("number", "null"),
            f"{DEFAULT_HTTP_TIMEOUT:g}",
        ),
        Extra(
            "max_requests_per_second",
            "Requests per second",
            "Most calls per second from one process. Empty: no limit.",
            ("number", "null"),
            "no limit",
        ),
        Extra(
            "verify",
            "Verify TLS",
            "Whether to verify TLS certificates: true, false, or the path of a CA bundle.",
            ("string", "null"),
            "true",
        ),
        Extra(
            "proxies",
            "Proxies",
            "JSON object of proxy URLs by scheme. Empty: the proxies of the environment.",
            ("string", "null"),
            '{"https": "http://proxy:3128"}',
        ),
        Extra(
            "cert",
            "Client certificate",
            "Path of a client certificate with its key, or a JSON list of both paths.",
            ("string", "null"),
        ),
        Extra("submit_path", "Submit path", "Path of the submit operation.", ("string", "null"), SUBMIT_PATH),
        Extra("query_path", "Query path", "Path of the query operation.", ("string", "null"), QUERY_PATH),
        Extra(
            "allow_http",
            "Allow plain http",
            "Send the AppCode unencrypted to a host other than this machine. For tests only.",
            ("boolean", "null"),
            "false",
        ),
    )
}

HIDDEN_FIELDS: Final = ("login", "extra")
RELABELED: Final = {"password": "AppCode", "host": "API domain", "schema": "Schema"}
PLACEHOLDERS: Final = {
    "host": "NAME.market.alicloudapi.com",
    "password": "the AppCode, from 'purchased services' in the cloud console",
    "schema": "https",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """A validated connection.

    :param base_url: scheme, host and port, no path.
    :param app_code: the AppCode without its prefix; ``repr`` does not show it.
    :param timeout: seconds that one HTTP attempt may take.
    :param verify: whether to verify TLS, or the path of a CA bundle.
    :param proxies: proxy URLs by scheme; ``None`` for those of the environment.
    :param cert: path of a client certificate, or of certificate and key.
    :param paths: path of each operation.
    :param max_requests_per_second: rate limit of one process; ``None`` for no limit.
    """

    base_url: str
    app_code: str = field(repr=False)
    timeout: float = DEFAULT_HTTP_TIMEOUT
    verify: bool | str = True
    proxies: Mapping[str, str] | None = field(default=None, repr=False)
    cert: str | tuple[str, str] | None = None
    paths: Mapping[Operation, str] = field(
        default_factory=lambda: {Operation.SUBMIT: SUBMIT_PATH, Operation.QUERY: QUERY_PATH}
    )
    max_requests_per_second: float | None = None


def parse_connection(
    *,
    host: str | None,
    schema: str | None,
    port: int | None,
    password: str | None,
    extra: Mapping[str, Any] | str | None,
) -> Settings:
    """Return the settings of a connection.

    :raises InvalidInput: with every problem of the connection, without the AppCode.
    """
    problems: list[Problem] = []
    extras = _extras(extra, problems)
    base_url = _base_url(host, schema, port, bool(extras.get("allow_http")), problems)
    app_code = _app_code(password, problems)
    if problems:
        raise InvalidInput(problems)
    return Settings(
        base_url=base_url,
        app_code=app_code,
        timeout=extras.get("timeout", DEFAULT_HTTP_TIMEOUT),
        verify=extras.get("verify", True),
        proxies=extras.get("proxies"),
        cert=extras.get("cert"),
        paths={
            Operation.SUBMIT: extras.get("submit_path", SUBMIT_PATH),
            Operation.QUERY: extras.get("query_path", QUERY_PATH),
        },
        max_requests_per_second=extras.get("max_requests_per_second"),
    )


def _base_url(
    host: str | None, schema: str | None, port: int | None, allow_http: bool, problems: list[Problem]
) -> str:
    def bad(where: str, what: str) -> str:
        problems.append(Problem(where, what))
        return ""

    host, schema = (host or "").strip(), (schema or "").strip().lower()
    if not host:
        return bad("host", f"is missing; give the API's domain, such as {PLACEHOLDERS['host']}")
    if schema not in ("", "http", "https"):
        return bad("schema", f"is {schema!r}; give https, or http for a server on this machine")
    try:
        parts = _split(host)
        name, own_port = parts.hostname or "", parts.port
    except ValueError:
        # Python's message is omitted, because it may contain a password.
        return bad("host", "is neither a domain nor a URL, or its port is not a number")
    if not _is_name(name) or any(c.isspace() for c in host) or parts.scheme not in ("", "http", "https"):
        return bad("host", "is neither a domain nor an http(s) URL; give the API's domain")
    if parts.username or parts.password:
        return bad("host", "contains credentials; put the AppCode into the password")
    if parts.path.strip("/") or parts.query or parts.fragment:
        return bad(
            "host",
            "contains a path; give the domain only, and other paths as extras submit_path and query_path",
        )
    if parts.scheme and schema and parts.scheme != schema:
        return bad("schema", f"is {schema!r}, but the host says {parts.scheme!r}; leave one of them out")
    if own_port and port and own_port != port:
        return bad("port", f"is {port}, but the host says {own_port}; leave one of them out")
    port = port or own_port
    if port is not None and not 1 <= int(port) <= 65535:
        return bad("port", f"is {port}; give 1 to 65535, or leave it out")
    scheme = parts.scheme or schema or "https"
    if scheme == "http" and not (allow_http or is_loopback(name)):
        return bad(
            "schema",
            f"is http, which would send the AppCode to {name} unencrypted; use https, or extra allow_http "
            "if this is your own test server",
        )
    shown = f"[{name}]" if ":" in name else name
    return f"{scheme}://{shown}" + (f":{port}" if port else "")


def _split(host: str) -> SplitResult:
    if _is_ipv6(host):
        host = f"[{host}]"  # as Airflow itself hands on the host of http://[::1]:8080
    return urlsplit(host if "://" in host else f"//{host}")


def _is_name(host: str) -> bool:
    # Nothing that another parser could take for the end of the name: the host that is checked is called.
    if _is_ipv6(host):
        return True
    labels = host.removesuffix(".").split(".")
    return all(len(label) <= 63 and re.fullmatch(r"[\w-]+", label) for label in labels)


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_PREFIX = re.compile(r"^appcode(\s+|$)", re.IGNORECASE)


def _app_code(password: str | None, problems: list[Problem]) -> str:
    # If it is copied from a web page, it often has a newline at the end, and sometimes the prefix.
    code = _PREFIX.sub("", (password or "").strip())
    if not code:
        problems.append(Problem("password", "is missing; give the AppCode"))
    elif not code.isascii() or not code.isprintable() or " " in code:
        what = "is not an AppCode: it contains a blank, a control or a non-ASCII character; copy it again"
        problems.append(Problem("password", what))
    return code


def _extras(extra: Mapping[str, Any] | str | None, problems: list[Problem]) -> dict[str, Any]:
    if isinstance(extra, str):
        try:
            extra = json.loads(extra) if extra.strip() else {}
        except ValueError:
            extra = None
            problems.append(Problem("extra", "is not a JSON object"))
    if extra is not None and not isinstance(extra, Mapping):
        problems.append(Problem("extra", "is not a JSON object"))
        extra = None
    out: dict[str, Any] = {}
    for name, value in (extra or {}).items():
        if name not in EXTRAS:
            close = difflib.get_close_matches(str(name), EXTRAS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"the extras are {', '.join(EXTRAS)}"
            problems.append(Problem(f"extra.{name}", f"is unknown; {hint}"))
        elif value is not None and value != "":
            # A form returns null or empty text for a field that was not filled in.
            try:
                out[name] = _PARSERS[name](value)
            except ValueError as error:
                problems.append(Problem(f"extra.{name}", str(error)))
    return out


def _positive(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"is {value!r}; give a number above 0")
    return number


def _flag(value: Any) -> bool:
    text = str(value).strip().lower()
    if text not in ("true", "false"):
        raise ValueError(f"is {value!r}; give true or false")
    return text == "true"


def _flag_or_path(value: Any) -> bool | str:
    if isinstance(value, str) and value.strip().lower() not in ("true", "false"):
        return value.strip()
    return _flag(value)


def _from_json(value: Any) -> Any:
    if isinstance(value, str) and value.strip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            return None  # neither a proxy nor a certificate
    return value


def _proxies(value: Any) -> dict[str, str]:
    value = _from_json(value)
    if not isinstance(value, dict) or not all(isinstance(x, str) for x in (*value, *value.values())):
        # Not shown: the URL of a proxy often contains a password.
        raise ValueError('is not an object of proxy URLs by scheme; give {"https": "http://host:port"}')
    return {scheme: _proxy(scheme, url.strip()) for scheme, url in value.items() if url.strip()}


def _proxy(scheme: str, url: str) -> str:
    # An invalid URL is refused, because aiohttp would bypass a proxy without a host.
    whole = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(whole)
        is_proxy = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_proxy = False
    if not is_proxy:
        raise ValueError(f"is not an http(s) proxy URL for {scheme!r}; give http://host:port")
    return whole


def _cert(value: Any) -> str | tuple[str, str]:
    parsed = _from_json(value)
    if isinstance(parsed, str):
        return parsed
    if isinstance(parsed, list) and len(parsed) == 2 and all(isinstance(x, str) for x in parsed):
        return parsed[0], parsed[1]
    raise ValueError(f"is {value!r}; give a path, or a list of the paths of certificate and key")


def _path(value: Any) -> str:
    if not isinstance(value, str) or not _PATH.fullmatch(value):
        raise ValueError(
            f"is {value!r}; give a path that begins with /, in ASCII (the rest percent-encoded) and without "
            "'.' and '..' segments"
        )
    return value


_CHARACTER: Final = r"(?:[\w.~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
_PATH: Final = re.compile(rf"(?:/(?!\.\.?(?:[/?]|$)){_CHARACTER}*)+(?:\?(?:{_CHARACTER}|[/?])*)?", re.ASCII)
"""A path with or without a query string, which every HTTP library sends unchanged."""


_PARSERS: Final[dict[str, Callable[[Any], Any]]] = {
    "timeout": _positive,
    "max_requests_per_second": _positive,
    "verify": _flag_or_path,
    "proxies": _proxies,
    "cert": _cert,
    "submit_path": _path,
    "query_path": _path,
    "allow_http": _flag,
}
