# SPDX-License-Identifier: Apache-2.0
"""Writes and reads the XML documents of OSS."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from email.utils import formatdate
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from airflow_provider_bgrep.oss_emulator.errors import malformed_xml

Content = str | int | bool | None | Iterable[tuple[str, Any]]
"""The content of an element: text, or its children in their order."""

XML = "application/xml"


def document(root: str, children: Content) -> bytes:
    """Return an XML document.

    :param root: the name of its root element.
    :param children: name and content of each child; children whose content is ``None`` are left out.
    """
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{_element(root, children)}'.encode()


def _element(name: str, content: Content) -> str:
    if isinstance(content, bool):
        inner = "true" if content else "false"
    elif isinstance(content, str | int):
        inner = escape(str(content))
    else:
        inner = "".join(_element(child, value) for child, value in content or () if value is not None)
    return f"<{name}>{inner}</{name}>"


def parsed(body: bytes, root: str) -> ElementTree.Element:
    """Return the root element of a request's body, with the namespaces removed.

    :param body: the body.
    :param root: the expected name of the root element.
    :raises OssError: 400 MalformedXML.
    """
    try:
        tree = ElementTree.fromstring(body)  # noqa: S314 (requests come from this machine)
    except ElementTree.ParseError:
        raise malformed_xml() from None
    for element in tree.iter():
        element.tag = element.tag.rpartition("}")[2]
    if tree.tag != root:
        raise malformed_xml()
    return tree


def http_date(seconds: float) -> str:
    """Return a time as headers have it.

    :param seconds: seconds since 1970.
    """
    return formatdate(seconds, usegmt=True)


def iso_date(seconds: float) -> str:
    """Return a time as XML documents have it: ISO 8601 with milliseconds, which are always 0.

    :param seconds: seconds since 1970.
    """
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
