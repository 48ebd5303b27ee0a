# SPDX-License-Identifier: Apache-2.0
"""Every error that leaves the catalog's state is one of this package's, and final or retried as it says."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_bgrep.catalog import state
from airflow_provider_bgrep.catalog.errors import state_errors
from airflow_provider_bgrep.catalog.state.ledger_metadata import DamagedLedgerError, NewerLedgerError
from airflow_provider_bgrep.catalog.state.ledger_reader import PlanInProgressError
from airflow_provider_bgrep.exceptions import (
    BgRepConflictError,
    BgRepError,
    BgRepRequestError,
    BgRepServiceError,
    BgRepStateError,
)
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem

MODULES = [
    importlib.import_module(f"{state.__name__}.{one.name}") for one in pkgutil.iter_modules(state.__path__)
]


def raises(module: ModuleType) -> Iterator[tuple[ast.Raise, list[ast.Try]]]:
    """Each raise of a module, and the try statements whose body it is in."""

    def walk(node: ast.AST, around: list[ast.Try]) -> Iterator[tuple[ast.Raise, list[ast.Try]]]:
        if isinstance(node, ast.Raise):
            yield node, around
        for field, value in ast.iter_fields(node):
            inside = [*around, node] if isinstance(node, ast.Try) and field == "body" else around
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from walk(child, inside)

    yield from walk(ast.parse(inspect.getsource(module)), [])


def is_handled(around: list[ast.Try]) -> bool:
    """Whether one of some try statements turns a ValueError into something else."""
    return any("ValueError" in ast.unparse(one.type) for each in around for one in each.handlers if one.type)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_every_raise_of_the_state_is_an_error_of_this_package(module):
    for node, around in raises(module):
        where = f"{module.__name__}:{node.lineno}"
        if node.exc is None:
            continue  # raised again as it is
        assert isinstance(node.exc, ast.Call), where
        function = ast.unparse(node.exc.func)
        if function.startswith("self."):  # a method that makes the error, or a class that was given
            continue
        kind = (
            getattr(module, function, None) or getattr(__builtins__, function, None) or __builtins__[function]
        )
        if kind in (ValueError, AssertionError):
            assert kind is AssertionError or is_handled(around), where
        else:
            assert issubclass(kind, (BgRepError, InvalidInput)), where


@pytest.mark.parametrize("kind", [BgRepStateError, DamagedLedgerError, NewerLedgerError])
def test_damage_is_final(kind):
    assert issubclass(kind, BgRepStateError)
    assert issubclass(kind, AirflowFailException)


@pytest.mark.parametrize("kind", [BgRepConflictError, PlanInProgressError])
def test_a_lost_race_is_retried(kind):
    assert issubclass(kind, BgRepConflictError)
    assert not issubclass(kind, AirflowFailException)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidInput([Problem("catalog", "is missing")]), BgRepRequestError),
        (FileNotFoundError("/shop/_bgrep/plans/x/plan.json"), BgRepStateError),
        (ValueError("the journal holds a damaged record"), BgRepStateError),
        (json.JSONDecodeError("Expecting value", "x", 0), BgRepStateError),
        (pa.ArrowInvalid("not a Parquet file"), BgRepStateError),
        (DamagedLedgerError("a segment cannot be found"), DamagedLedgerError),
        (BgRepConflictError("others committed first"), BgRepConflictError),
        (BgRepServiceError("the service is down"), BgRepServiceError),
        (PermissionError("access denied"), PermissionError),
        (ConnectionError("no route"), ConnectionError),
    ],
)
def test_operators_translate_errors_in_one_place(error: Exception, kind: type[Exception]):
    def work() -> Any:
        with state_errors():
            raise error

    with pytest.raises(kind) as raised:
        work()
    assert type(raised.value) is kind
    assert str(error).partition("\n")[0][:40] in str(raised.value)
