# SPDX-License-Identifier: Apache-2.0
"""The code in the documentation is valid, and what it imports exists."""

from __future__ import annotations

import ast
import importlib
import re
import runpy
import textwrap
from pathlib import Path

import pytest

from airflow_provider_bgrep.catalog.state.manifest import MANIFEST

DOCS = Path(__file__).parents[3] / "docs"
BLOCK = re.compile(r"^( *)\.\. code-block:: python\n\n((?:\1   .*\n|\s*\n)+)", re.MULTILINE)
BLOCKS = [
    pytest.param(textwrap.dedent(match[2]), id=f"{page.stem}-{number}")
    for page in sorted(DOCS.glob("*.rst"))
    for number, match in enumerate(BLOCK.finditer(page.read_text(encoding="utf-8")))
]


@pytest.mark.parametrize("source", BLOCKS)
def test_code_blocks_are_valid_and_their_imports_exist(source: str):
    # `f(..., ...)` stands for further arguments.
    tree = ast.parse(re.sub(r", \.\.\.\)", ")", source))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, name.name) for name in node.names)


def test_the_example_of_a_consumer_reads_columns_of_the_manifest(tmp_path: Path):
    file = DOCS / "examples" / "published.py"
    columns = set(re.findall(r"row\[[\"'](\w+)[\"']\]", file.read_text(encoding="utf-8")))
    assert columns
    assert columns <= {column.name for column in MANIFEST}
    assert list(runpy.run_path(str(file))["changed_images"](str(tmp_path), 0)) == []


def test_the_example_of_an_alert_says_what_the_report_found():
    module = runpy.run_path(str(DOCS / "examples" / "alert.py"))
    sent: list[str] = []

    class Report:
        dag_id, task_id = "shop_images", "catalog_refresh.report"

        def xcom_pull(self, *, task_ids: str, key: str) -> dict[str, str]:
            assert (task_ids, key) == (self.task_id, "return_value")
            return {"line": "3 rows need attention: 3 flagged."}

    module["alert"]({"ti": Report()}, sent.append)
    assert sent == ["shop_images, catalog_refresh.report: 3 rows need attention: 3 flagged."]
    assert all(task.on_failure_callback for task in module["dag"].tasks)
