# SPDX-License-Identifier: Apache-2.0
"""The page with messages: each of them is a message of the package."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import airflow_provider_bgrep

PAGE = (Path(__file__).parents[3] / "docs" / "troubleshooting.rst").read_text(encoding="utf-8")
QUOTED = re.findall(r"^``(.+)``$", PAGE, flags=re.MULTILINE)


@cache
def messages() -> tuple[str, ...]:
    """Every text of the package; what is inserted when it runs is ``…``."""
    found: list[str] = []
    for file in Path(airflow_provider_bgrep.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append(
                    "".join(str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return tuple(found)


def is_message(quoted: str) -> bool:
    """Whether the parts of a quotation follow one another in one message."""
    parts = ".*".join(re.escape(part.strip()) for part in quoted.split("…"))
    return any(re.search(parts, message, flags=re.DOTALL) for message in messages())


@pytest.mark.parametrize("quoted", QUOTED)
def test_each_message_is_one_of_the_package(quoted):
    assert is_message(quoted)


def test_the_page_has_messages_and_others_are_not_of_the_package():
    assert len(QUOTED) > 30
    assert not is_message("no such message … of the package")
