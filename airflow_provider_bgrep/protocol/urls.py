# SPDX-License-Identifier: Apache-2.0
"""Removes signatures from URLs, normalizes and encodes them, and redacts them for messages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from airflow_provider_bgrep.protocol.signatures import (
    IN_PATH,
    stable_host,
    without_parameters,
    without_signature,
)

_MAX_SHOWN: Final = 60
"""Number of characters of a URL that a message shows."""

_URL_SAFE: Final = "".join(map(chr, range(0x21, 0x7F)))
_ESCAPED: Final = re.compile("%([0-9A-Fa-f]{2})")
_FORBIDDEN: Final = re.compile(r'["<>\\^`{|}]')
"""Characters that are not allowed in URLs. Browsers and HTTP libraries encode them."""
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


def strip_signature(url: str) -> str:
    """Return ``url`` without the parameters that only sign it, and without its fragment.

    A URL with another signature names the same image. Parameters that determine the content, such as
    ``x-oss-process``, are kept.
    """
    parts = urlsplit(url)
    netloc = parts.netloc.lower()
    path, query = without_signature(_host(netloc), parts.path, parts.query)
    return urlunsplit((parts.scheme.lower(), netloc, path, query, ""))


def _host(netloc: str) -> str:
    return netloc.rpartition("@")[2].partition(":")[0].rstrip(".")


CANONICAL_URL: Final = re.compile(
    r"https?://(?!scontent)[a-z0-9][a-z0-9.-]*(?<!\.)"
    rf"(?:/(?!\.|{IN_PATH}=)"
    r"[^\x00-\x20%/?#\"<>\\^`{|}\x7f-\U0010ffff]*)+"
)
"""A URL that is valid and canonical at first sight. Other canonical URLs need not match."""


def canonical_url(url: str, ignored_parameters: Iterable[str] = ()) -> str:
    """Return one form for all URLs that name the same image.

    It is normalized by RFC 3986, its host name is ASCII, and it has neither signature, credentials nor
    fragment. Use it for comparisons only, because a server may refuse it. Text that is not a URL is returned
    unchanged.

    :param ignored_parameters: names of query parameters that do not determine the image.
    """
    try:
        parts = urlsplit(ascii_url(strip_signature(url.strip())))
        _ = parts.port
    except ValueError:
        return url.strip()
    netloc = parts.netloc.rpartition("@")[2].removesuffix(_DEFAULT_PORTS.get(parts.scheme, ":"))
    host, colon, port = (netloc, "", "") if netloc.endswith("]") else netloc.partition(":")
    query = without_parameters(parts.query, ignored_parameters) if ignored_parameters else parts.query
    path, query = (
        _FORBIDDEN.sub(_encode, _ESCAPED.sub(_decode_unreserved, text)) for text in (parts.path or "/", query)
    )
    netloc = f"{stable_host(host.removesuffix('.'))}{colon}{port}"
    return urlunsplit((parts.scheme, netloc, _without_dots(path), query, ""))


def _encode(character: re.Match[str]) -> str:
    return f"%{ord(character[0]):02X}"


def _without_dots(path: str) -> str:
    """Resolve the segments ``.`` and ``..``, as HTTP clients do before they send a request."""
    if "/." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _decode_unreserved(escaped: re.Match[str]) -> str:
    character = chr(int(escaped[1], 16))
    return character if character in _UNRESERVED else escaped[0].upper()


def ascii_url(url: str) -> str:
    """Return ``url`` in ASCII: other characters percent-encoded as UTF-8, the host name as IDNA.

    Encoded characters are not changed, so that a signed URL keeps its signature.
    """
    if url.isascii():
        return url
    parts = urlsplit(url)
    user, at, netloc = parts.netloc.rpartition("@")
    if not netloc.isascii():
        netloc = _ascii_host(netloc)
    netloc = quote(user, safe=_URL_SAFE) + at + netloc
    rest = [quote(part, safe=_URL_SAFE) for part in (parts.path, parts.query, parts.fragment)]
    return urlunsplit((parts.scheme, netloc, *rest))


def _ascii_host(netloc: str) -> str:
    """Return a host name, which a port may follow, by IDNA 2008. By IDNA 2003, ß would become ss: another
    host.

    :raises UnicodeError: if it is not a host name.
    """
    import idna

    host, colon, port = netloc.partition(":")
    mapped = idna.uts46_remap(host, std3_rules=False, transitional=False)
    if ".." in mapped or mapped.startswith("."):
        raise UnicodeError("a label of the host name is empty")
    # ASCII labels may have underscores, which IDNA does not allow.
    labels = [label if label.isascii() else idna.alabel(label).decode() for label in mapped.split(".")]
    return f"{'.'.join(labels)}{colon}{port}"


_ENCODED: Final = "%(?:25)*"
"""The beginning of an encoded character, which may be encoded again."""
_SLASH: Final = re.compile(rf"(\\?/|{_ENCODED}2F)", re.IGNORECASE)
_COLON: Final = re.compile(rf":|{_ENCODED}3A", re.IGNORECASE)
_AT: Final = re.compile(rf"@|{_ENCODED}40")
_ONSET: Final = re.compile(rf"\w(?:{_COLON.pattern})(?:{_SLASH.pattern}){{2}}", re.IGNORECASE)
_QUERY: Final = re.compile(rf"[?#]|{_ENCODED}(?:3F|23)", re.IGNORECASE)
_PARTIAL_QUERY: Final = re.compile(
    rf"(?<!^)(?:\?|{_ENCODED}3F)(?=[\w%])"  # within a word, and before a name
    rf"|(?:&(?:amp;)?|\\u0026|{_ENCODED}26)[\w.-]+(?:=|\\u003D|{_ENCODED}3D)",
    re.IGNORECASE,
)
_PORT: Final = re.compile(rf"(?:\[[^\]]*\]|[^:%]*)(?:(?:{_COLON.pattern})[0-9]*)?", re.IGNORECASE)
"""A host, perhaps with a port."""
_PATH_SIGNATURE: Final = re.compile(
    rf"(?P<slash>\\?/|{_ENCODED}2F)?(?P<name>{IN_PATH}(?:=|\\u003D|{_ENCODED}3D)).*?(?=(?P=slash)|$)",
    re.IGNORECASE,
)
"""A signature in a path, up to a slash that is written like the one before it."""
_LAST: Final = re.compile(r"""[\\"'<>(){}\[\],;:.!?]{0,5}$""")


def redact_text(text: str) -> str:
    r"""Return text without what signs a URL in it, and without credentials.

    Whoever quotes a URL may escape or encode it (``https:\/\/``, ``https%3A%2F%2F``), or leave out its scheme
    and its host. A query ends at white space, which no URL has that is sent.
    """
    return " ".join(map(_redacted, text.split(" ")))


def _redacted(word: str) -> str:
    word = _PATH_SIGNATURE.sub(r"\g<slash>\g<name>…", word)
    onset = _ONSET.search(word)
    found = [onset and _QUERY.search(word, onset.end()), _PARTIAL_QUERY.search(word)]
    if starts := [one.start() for one in found if one]:
        query = word[min(starts) :]
        word = f"{word[: min(starts)]}?…{_LAST.search(query, 1)[0]}"  # type: ignore[index]
    if not _AT.search(word):
        return word
    parts = _joined(_SLASH.split(word))  # every other one is a slash
    for i in range(0, len(parts), 2):
        user, *hosts = _AT.split(parts[i])
        if not hosts:
            continue
        scheme = _COLON.search(user)
        # A host follows two slashes. In a URL that has less, a password follows a colon.
        if (i >= 4 and not parts[i - 2]) or scheme:
            kept = user[: scheme.end()] if scheme and not i else ""
            parts[i] = f"{kept}***@{hosts[-1]}"
    return "".join(parts)


def _joined(parts: list[str]) -> list[str]:
    """The parts of a word, with credentials as one part that a slash in the password divides.

    ``KEY:half`` ``/`` ``half@host`` is such a password: no host has a colon, except before its port.
    """
    joined: list[str] = []
    i = 0
    while i < len(parts):
        end = i
        is_host = i % 2 == 0 and i >= 4 and not parts[i - 2]
        if is_host and _COLON.search(parts[i]) and not _PORT.fullmatch(parts[i]):
            end = next((j for j in range(i, len(parts), 2) if _AT.search(parts[j])), -1)
            if end < 0:
                return joined + parts[i:]
        joined.append("".join(parts[i : end + 1]))
        i = end + 1
    return joined


def redacted_beginning(text: str, longest: int) -> str:
    """Return the beginning of a text, without what :func:`redact_text` removes.

    A text that is cut first may lose what tells that a password is one.

    :param text: the whole text.
    :param longest: number of characters from which the text is cut.
    """
    text = redact_text(text)
    return text if len(text) <= longest else f"{text[:longest]}…"


def redact_url(url: str) -> str:
    """Return ``url`` as a message may show it: without credentials, query and fragment."""
    head = url.split("?", 1)[0].split("#", 1)[0]
    if head[:5].lower() == "data:":
        head = head.split(",", 1)[0]
    return redacted_beginning(head, _MAX_SHOWN)
