# SPDX-License-Identifier: Apache-2.0
"""The types of rows agree with the columns of the files that have them."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_bgrep.catalog.model.rows import LedgerEntry, ResultRow, WorkItemRow
from airflow_provider_bgrep.catalog.model.schema import ENTRY, RESULT, WORK_ITEM, Column

TYPES = {
    "VARCHAR": "str",
    "BIGINT": "int | None",
    "DOUBLE": "float | None",
    "BOOLEAN": "bool",
    "BLOB": "bytes | None",
    "BLOB[]": "list[bytes | None] | None",
}


@pytest.mark.parametrize(
    ("columns", "kind"), [(ENTRY, LedgerEntry), (WORK_ITEM, WorkItemRow), (RESULT, ResultRow)]
)
def test_the_types_of_rows_have_the_columns_of_their_files(columns: tuple[Column, ...], kind: type):
    fields: dict[str, Any] = {}
    for one in reversed([kind, *getattr(kind, "__orig_bases__", ())]):
        fields |= getattr(one, "__annotations__", {})
    named = {name: getattr(value, "__forward_arg__", value) for name, value in kind.__annotations__.items()}
    wanted = {one.name: TYPES[one.type] for one in columns}
    wanted |= {"position": "int"} if "position" in wanted else {}
    assert named == wanted
