# SPDX-License-Identifier: Apache-2.0
"""The page takes any text for text."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from bgrep_demo.page import Shot, write_page

HOSTILE = "<script>alert(1)</script>\"'&amp;{%</style>雪山"


class Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.pictures: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.pictures += [value or "" for name, value in attrs if (tag, name) == ("img", "src")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_hostile_texts_and_file_names_stay_text(tmp_path: Path):
    folder = tmp_path / "pictures" / '"><b> & #1?'
    shot = Shot(HOSTILE, HOSTILE, folder / "s.jpg", [folder / "1.png"], folder / "m.png", HOSTILE, [HOSTILE])
    page = tmp_path / "index.html"
    write_page(page, title=HOSTILE, lead=HOSTILE, numbers={HOSTILE: HOSTILE}, shots=[shot], foot=HOSTILE)
    seen = Seen()
    seen.feed(page.read_text(encoding="utf-8"))
    assert "script" not in seen.tags
    assert "b" not in seen.tags
    assert seen.text.count(HOSTILE) == 9
    assert [name.rpartition("/")[2] for name in seen.pictures] == ["s.jpg", "m.png", "1.png"]
    assert all(name.startswith("pictures/%22%3E%3Cb%3E%20%26%20%231%3F/") for name in seen.pictures)
