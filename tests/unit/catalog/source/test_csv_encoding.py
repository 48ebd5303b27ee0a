# SPDX-License-Identifier: Apache-2.0
"""The encoding of a CSV file: Unicode, or GB18030 on evidence; others are refused unless given."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from airflow_provider_bgrep.catalog.source.csv_encoding import (
    detect_encoding,
    is_chinese,
    known_encoding,
    utf16_or_32,
)
from airflow_provider_bgrep.protocol.errors import InvalidInput

CHINESE = "货号,提示词\n1,放在木桌上的陶瓷杯\n2,蓝色的玻璃花瓶\n3,白色的瓷碗和筷子\n"
JAPANESE = "番号,プロンプト\n1,木のテーブルの上のカップ\n2,青いガラスの花瓶\n"
KOREAN = "번호,프롬프트\n1,나무 테이블 위의 머그컵\n2,파란 유리 꽃병\n"
WESTERN = "sku,prompt\n1,Tasse auf weißem Grund\n2,Vase über grünem Gras\n3,Größe und Höhe\n"


@pytest.fixture
def detect(tmp_path: Path):
    def detect(data: bytes) -> str:
        path = tmp_path / "catalog.csv"
        path.write_bytes(data)
        return detect_encoding(str(path))

    return detect


@pytest.mark.parametrize("text", [CHINESE, JAPANESE, KOREAN, WESTERN, "sku,image\n1,x\n", ""])
def test_utf8_is_utf8_in_every_language(detect, text):
    assert detect(text.encode()) == "utf-8"
    assert detect(codecs.BOM_UTF8 + text.encode()) == "utf-8-sig"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", [WESTERN, "sku,image,prompt,steps\n1,https://a/b.jpg,杯子,20\n"])
def test_utf16_is_found_with_and_without_its_mark(detect, encoding, text):
    mark = codecs.BOM_UTF16_LE if encoding.endswith("le") else codecs.BOM_UTF16_BE
    assert detect(mark + text.encode(encoding)) == "utf-16"
    assert detect(text.encode(encoding)) == encoding


def test_utf32_is_found_by_its_mark(detect):
    assert detect(WESTERN.encode("utf-32")) == "utf-32"


@pytest.mark.parametrize("encoding", ["gb18030", "gbk", "gb2312"])
def test_chinese_is_found_without_a_mark(detect, encoding):
    assert detect(CHINESE.encode(encoding)) == "gb18030"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (WESTERN, "cp1252"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        (JAPANESE, "iso2022_jp"),
        (KOREAN, "cp949"),
        ("sku,prompt\n1,кружка на столе\n2,синяя ваза\n3,белая чашка\n", "cp1251"),
        ("貨號,提示\n1,放在木桌上的陶瓷杯\n2,藍色的玻璃花瓶\n", "big5"),
    ],
)
def test_another_encoding_is_refused_with_what_to_do(detect, text, encoding):
    with pytest.raises(InvalidInput) as caught:
        detect(text.encode(encoding))
    (problem,) = caught.value.problems
    assert problem.where == "catalog"
    assert "UTF-8" in problem.what
    assert "encoding" in problem.what


def test_a_few_damaged_lines_do_not_change_the_encoding(detect):
    lines = [f"{number},Größe".encode() for number in range(100)]
    lines[50] = b"50,Gr\xf6\xdfe"
    assert detect(b"\n".join(lines)) == "utf-8"
    ascii_only = [b"%d,plain" % number for number in range(100)]
    ascii_only[50] = b"50,Gr\xf6\xdfe"
    assert detect(b"\n".join(ascii_only)) == "utf-8"


def test_a_word_that_many_rows_repeat_is_no_evidence():
    word = "Größe".encode("cp1252")
    assert not is_chinese({word})
    assert not is_chinese([])
    assert is_chinese(
        {text.encode("gb18030") for text in ("放在木桌上的陶瓷杯", "蓝色的玻璃花瓶", "白色的瓷碗")}
    )


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        (b"", ""),
        (b"a", ""),
        (b"abcd" * 9, ""),
        (b"\x00" * 40, ""),
        (b"a\x00" * 9, "utf-16-le"),
        (b"\x00a" * 9, "utf-16-be"),
    ],
    ids=repr,
)
def test_utf16_has_a_nul_at_every_other_place(head, encoding):
    assert utf16_or_32(head) == encoding


@pytest.mark.parametrize(("given", "name"), [("UTF8", "utf-8"), ("GBK", "gbk"), ("latin-1", "iso8859-1")])
def test_an_encoding_that_is_given_has_pythons_name(given, name):
    assert known_encoding(given) == name


@pytest.mark.parametrize("given", ["utf-9", "", "ansi!"])
def test_an_encoding_that_python_does_not_know_is_refused(given):
    with pytest.raises(InvalidInput) as caught:
        known_encoding(given)
    assert [problem.where for problem in caught.value.problems] == ["encoding"]
