# SPDX-License-Identifier: Apache-2.0
"""XML documents and dates, written and read."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.oss_emulator.documents import document, http_date, iso_date, parsed
from airflow_provider_bgrep.oss_emulator.errors import OssError


def test_children_keep_their_order_and_may_be_left_out():
    children = [("B", 1), ("A", True), ("C", None), ("B", [("D", "x")])]
    assert document("Root", children) == (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<Root><B>1</B><A>true</A><B><D>x</D></B></Root>'
    )


def test_text_is_escaped():
    written = document("Root", [("Key", "<a>&ü")])
    assert parsed(written, "Root").findtext("Key") == "<a>&ü"


def test_a_root_can_be_text():
    assert parsed(document("Root", "text"), "Root").text == "text"


def test_namespaces_are_ignored():
    assert parsed(
        b'<Delete xmlns="http://doc.oss-cn-hangzhou.aliyuncs.com"><Quiet>a</Quiet></Delete>', "Delete"
    )


@pytest.mark.parametrize("body", [b"", b"<Delete>", b"{}", b"<Other/>"])
def test_what_is_not_the_expected_document_is_refused(body):
    with pytest.raises(OssError) as caught:
        parsed(body, "Delete")
    assert (caught.value.status, caught.value.code) == (400, "MalformedXML")


def test_dates():
    assert http_date(0.9) == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert iso_date(0.9) == "1970-01-01T00:00:00.000Z"
