# SPDX-License-Identifier: Apache-2.0
"""Each module of the package has its test module: ``a/_b.py`` is tested in ``tests/unit/a/test_b.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
PACKAGE = TESTS.parents[1] / "airflow_provider_bgrep"

TESTED_ELSEWHERE: dict[str, str] = {}
"""Modules without a test module of their own, each with the reason."""

SCENARIOS = {
    "catalog/check/test_color_profiles.py": "source and result in other color spaces",
    "catalog/check/test_image_neighbors.py": "images in every mode, container and orientation",
    "catalog/plan/test_sources.py": "which images are the same, and where they may be",
    "catalog/report/test_cleared.py": "the report after tasks were cleared one by one",
    "catalog/source/test_field_cases_cells.py": "cells as they come from the field",
    "catalog/source/test_field_cases_files.py": "files as they come from the field",
    "catalog/source/test_neighbors.py": "cells in every type and format, files in every dialect",
    "catalog/state/test_errors.py": "every error that leaves the catalog's state",
    "catalog/test_histories_attack.py": "histories of runs, attacked",
    "catalog/test_histories_ledger.py": "histories of runs, down to the ledger's files",
    "catalog/test_histories_repeated.py": "histories of steps that are killed, repeated and damaged",
    "catalog/test_histories_views.py": "histories of rows whose sku and view change",
    "catalog/test_many_runs.py": "many runs, with crashes",
    "oss_emulator/test_sdk.py": "the emulator of OSS, used by Alibaba's SDK",
    "test_imports.py": "what an import loads",
    "test_layout.py": "the tests themselves",
    "test_names.py": "the tests themselves",
    "test_packaging.py": "the wheel",
    "test_readme.py": "README.md",
}
"""Test modules that are about a scenario or a file of the project, not about a module of the package."""

FOLDERS = {"dags", "demo", "docs", "tools"}
"""Folders of tests about other folders of the project."""


def module_tests_of(module: Path) -> Path:
    """The test module of a module."""
    relative = module.relative_to(PACKAGE)
    return TESTS / relative.parent / f"test_{relative.stem.strip('_')}.py"


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_module_has_its_test_module(module: Path):
    name = str(module.relative_to(PACKAGE))
    assert module_tests_of(module).exists() is (name not in TESTED_ELSEWHERE), (
        f"{module_tests_of(module)} tests {name}"
    )


def test_every_other_test_module_is_about_a_scenario():
    found = {
        str(path.relative_to(TESTS))
        for path in TESTS.rglob("test_*.py")
        if path.relative_to(TESTS).parts[0] not in FOLDERS
    }
    assert found - {str(module_tests_of(one).relative_to(TESTS)) for one in MODULES} == set(SCENARIOS)


def test_exceptions_are_of_modules_that_exist_and_have_a_reason():
    assert set(TESTED_ELSEWHERE) <= {str(one.relative_to(PACKAGE)) for one in MODULES}
    assert len(TESTED_ELSEWHERE) < 10
    assert all(TESTED_ELSEWHERE.values())
