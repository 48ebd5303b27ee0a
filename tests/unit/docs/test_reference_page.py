# SPDX-License-Identifier: Apache-2.0
"""The reference covers every public name."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

import airflow_provider_bgrep
from airflow_provider_bgrep import catalog, testing
from airflow_provider_bgrep.hooks import bgrep as hooks
from airflow_provider_bgrep.operators import bgrep as operators
from airflow_provider_bgrep.sensors import bgrep as sensors
from airflow_provider_bgrep.triggers import bgrep as triggers

PAGE = (Path(__file__).parents[3] / "docs" / "reference.rst").read_text(encoding="utf-8")
DOCUMENTED = set(re.findall(r"^\.\. (?:py:|auto)(?:class|function):: (?:\S+\.)?(\w+)$", PAGE, re.MULTILINE))


def test_every_exported_operator_name_is_in_the_reference():
    assert set(operators.__all__) <= DOCUMENTED


@pytest.mark.parametrize("module", [hooks, operators, sensors, triggers])
def test_every_class_for_dags_is_in_the_reference(module: ModuleType):
    classes = {
        name
        for name, one in vars(module).items()
        if inspect.isclass(one) and one.__module__ == module.__name__ and name.startswith("BgRep")
    }
    assert classes
    assert classes <= DOCUMENTED


def test_every_exported_name_is_in_the_reference():
    for package in (catalog, testing):
        assert set(package.__all__) <= DOCUMENTED
    assert {"ImageTask", "Job"} <= DOCUMENTED & set(airflow_provider_bgrep.__all__)
