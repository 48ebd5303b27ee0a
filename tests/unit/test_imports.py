# SPDX-License-Identifier: Apache-2.0
"""What an import brings along: the core nothing, a DAG file's classes nothing that speaks HTTP."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

import pytest

import airflow_provider_bgrep.oss_emulator
import airflow_provider_bgrep.protocol

PROTOCOL = [
    "airflow_provider_bgrep.protocol",
    *(
        f"airflow_provider_bgrep.protocol.{m.name}"
        for m in pkgutil.iter_modules(airflow_provider_bgrep.protocol.__path__)
    ),
]
DAG_FILE = """
from airflow_provider_bgrep import ImageTask
from airflow_provider_bgrep.exceptions import BgRepError
from airflow_provider_bgrep.operators.bgrep import BgRepDownloadOperator, BgRepSubmitOperator
from airflow_provider_bgrep.protocol.models import ImageTask
from airflow_provider_bgrep.sensors.bgrep import BgRepSensor
from airflow_provider_bgrep.triggers.bgrep import BgRepTrigger
"""
AIRFLOW_ALONE = """
try:
    from airflow.sdk import DAG, BaseOperator
except ImportError:
    from airflow import DAG
    from airflow.models.baseoperator import BaseOperator
"""


def loaded_by(code: str, *, after: str = "") -> set[str]:
    """The modules that ``code`` loads in a fresh interpreter, over what ``after`` had loaded there."""
    script = f"""
import json, sys
{after}
before = set(sys.modules)
{code}
print()
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def of(modules: set[str], *packages: str) -> list[str]:
    return sorted(module for module in modules if module.partition(".")[0] in packages)


def test_the_core_loads_the_standard_library_and_nothing_else():
    assert len(PROTOCOL) > 9
    modules = loaded_by("\n".join(f"import {name}" for name in PROTOCOL))
    assert of(modules, "airflow", "requests", "aiohttp") == []
    ours = {"airflow_provider_bgrep"}
    foreign = {module.partition(".")[0] for module in modules} - set(sys.stdlib_module_names) - ours
    assert foreign == set()


def test_the_emulator_of_oss_loads_the_standard_library_only():
    modules = [
        f"airflow_provider_bgrep.oss_emulator.{m.name}"
        for m in pkgutil.iter_modules(airflow_provider_bgrep.oss_emulator.__path__)
    ]
    assert len(modules) > 15
    loaded = loaded_by("\n".join(f"import {name}" for name in modules))
    ours = {module for module in loaded if module.startswith("airflow_provider_bgrep.")}
    assert {module.split(".")[1] for module in ours} == {"oss_emulator"}
    names = {module.partition(".")[0] for module in loaded}
    assert names - set(sys.stdlib_module_names) == {"airflow_provider_bgrep"}


@pytest.mark.parametrize("module", ["connection", "journal.journal", "get_provider_info", "triggers.event"])
def test_what_knows_no_airflow_loads_none(module):
    modules = loaded_by(f"import airflow_provider_bgrep.{module}")
    assert of(modules, "airflow", "requests", "aiohttp") == []


@pytest.mark.slow
def test_a_dag_files_imports_load_no_http_but_airflows_own():
    added = loaded_by(DAG_FILE, after=AIRFLOW_ALONE)
    assert "airflow_provider_bgrep.sensors.bgrep" in added
    assert of(added, "requests", "aiohttp", "urllib3", "PIL", "numpy") == []
    heavy = {"hooks", "client", "download", "emulator", "oss_emulator", "testing", "storage", "journal"}
    ours = {module.split(".")[1] for module in of(added, "airflow_provider_bgrep") if "." in module}
    assert ours & heavy == set()
