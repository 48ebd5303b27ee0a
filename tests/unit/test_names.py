# SPDX-License-Identifier: Apache-2.0
"""The names of test functions fit on a line of pytest's report."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
LONGEST = 60


def test_names_of_tests_have_at_most_60_characters():
    long = [
        f"{file.relative_to(TESTS)}:{node.lineno}: {node.name}"
        for file in sorted(TESTS.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and len(node.name) > LONGEST
    ]
    assert long == []
