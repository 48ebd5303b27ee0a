# SPDX-License-Identifier: Apache-2.0
"""The checker of prose finds words to avoid in prose, and in prose only."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

TOOL = Path(__file__).parents[3] / "tools" / "prose.py"


@pytest.fixture(scope="module")
def prose() -> Any:
    return runpy.run_path(str(TOOL))


def found(prose: Any, suffix: str, text: str) -> list[tuple[int, str]]:
    return [(match.line, match.word) for match in prose["matches"](text, suffix)]


PYTHON = '''"""Says what was bought.

``bought`` is code.
"""
told = "fine"  # the fate of it
print(f"{told} lies here", "look "
    "at it")
'''


@pytest.mark.parametrize(
    ("suffix", "text", "expected"),
    [
        pytest.param(
            ".py",
            PYTHON,
            [(1, "bought"), (5, "fate"), (6, "lies"), (6, "look at")],
            id="docstring, comment, string",
        ),
        pytest.param(".py", "fate = told(night, legs)\n", [], id="names are not prose"),
        pytest.param(
            ".rst",
            "The night\n\n.. code-block:: python\n\n   night()\n\nnight\n",
            [(1, "night"), (7, "night")],
        ),
        pytest.param(
            ".rst", "As so::\n\n   night\n\nA :doc:`x <night>` and ``night``.\n", [], id="literal block, role"
        ),
        pytest.param(".rst", ".. list-table::\n   :widths: 1\n\n   * - night\n", [(4, "night")], id="table"),
        pytest.param(".md", "`night`\n\n```sh\nnight\n```\n\nA [night](night.md)\n", [(7, "night")]),
        pytest.param(
            ".html", '<p id="night" title="a night">night</p><script>f(night)</script>', [(1, "night")] * 2
        ),
        pytest.param(
            ".js", "night('so many', `${told} fate`); // mend\n", [(1, "so many"), (1, "fate"), (1, "mend")]
        ),
        pytest.param(".css", ".picture { color: red } /* a picture */\n", [(1, "picture")]),
        pytest.param(
            ".md",
            "A blank is no error. There is no journal; there\nis no key; it is no longer so.\n",
            [(1, "is no error")],
        ),
        pytest.param(".md", "Nightly and overnight, legal, Troubleshooting, bearer, builds, unlisted.\n", []),
        pytest.param(".md", "Look\nat it\n", [(1, "Look at")], id="across lines"),
        pytest.param(
            ".md",
            "A colour, normalised, after a time-out; raised, promised, four hours.\n",
            [(1, "colour"), (1, "normalised"), (1, "time-out")],
            id="British spelling",
        ),
    ],
)
def test_words_are_found_in_prose(prose: Any, suffix: str, text: str, expected: list[tuple[int, str]]):
    assert found(prose, suffix, text) == expected


def test_a_match_is_reported_with_its_place_and_sentence(prose: Any, tmp_path: Path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.rst").write_text("Title\n=====\n\nFirst. The fate of\na row. Last.\n")
    (line,) = prose["check"](tmp_path, ["docs"])
    assert line == "docs/page.rst:4: fate: The fate of a row. (write: outcome)"


def test_an_exemption_allows_its_words_in_its_files(prose: Any, tmp_path: Path):
    (tmp_path / "a.md").write_text("A picture of the night.\n")
    (tmp_path / "b.md").write_text("A picture.\n")
    exemption = prose["Exemption"]("a.*", ["picture", "night"], "a prompt")
    (line,) = prose["check"](tmp_path, ["."], [exemption])
    assert line.startswith("b.md:1: picture: ")


def test_an_exemption_that_is_not_needed_is_an_error(prose: Any, tmp_path: Path):
    (tmp_path / "a.md").write_text("An image.\n")
    exemption = prose["Exemption"]("a.md", ["picture"], "a prompt")
    assert prose["check"](tmp_path, ["."], [exemption]) == [
        "pyproject.toml: a.md is exempt from picture: not needed"
    ]
    assert prose["check"](tmp_path, [], [exemption]) == []


def test_a_star_allows_every_word(prose: Any, tmp_path: Path):
    (tmp_path / "a.md").write_text("A picture of the night.\n")
    assert prose["check"](tmp_path, ["."], [prose["Exemption"]("a.md", ["*"], "a list of words")]) == []


def test_generated_folders_are_skipped(prose: Any, tmp_path: Path):
    for folder in (".venv", "build", "_build", "__pycache__"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.md").write_text("night\n")
    assert prose["check"](tmp_path, ["."]) == []
