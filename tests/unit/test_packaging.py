# SPDX-License-Identifier: Apache-2.0
"""What is tested is what is shipped: the built wheel, installed."""

from __future__ import annotations

import sysconfig
from importlib.metadata import distribution, entry_points
from pathlib import Path

import airflow_provider_bgrep

SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
SOURCE = Path(__file__).parents[2] / "airflow_provider_bgrep"


def test_the_installed_wheel_is_what_is_tested():
    where = Path(airflow_provider_bgrep.__file__)
    assert where.is_relative_to(SITE_PACKAGES), "run the tests through make: it installs the built wheel"


def test_the_wheel_holds_every_module_and_nothing_else():
    shipped = {
        str(path)
        for path in distribution("airflow-provider-bgrep").files or ()
        if ".dist-info" not in path.parts[0] and not {"__pycache__", ".."} & set(path.parts)
    }
    in_source = {
        str(path.relative_to(SOURCE.parent))
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    # One home for the files: see force-include in pyproject.toml.
    examples = {
        f"airflow_provider_bgrep/example_dags/{path.name}" for path in SOURCE.parent.glob("dags/*.py")
    }
    assert len(examples) >= 2
    assert shipped == in_source | examples
    assert "airflow_provider_bgrep/py.typed" in shipped


def test_airflow_finds_the_provider():
    (entry,) = entry_points(group="apache_airflow_provider", name="provider_info").select(
        module="airflow_provider_bgrep.get_provider_info"
    )
    info = entry.load()()
    assert info["package-name"] == "airflow-provider-bgrep"


def test_the_metadata_names_version_and_licence():
    metadata = distribution("airflow-provider-bgrep").metadata
    assert metadata["Version"] == airflow_provider_bgrep.__version__
    assert metadata["License-Expression"] == "Apache-2.0"


def test_the_command_line_is_installed():
    (entry,) = entry_points(group="console_scripts", name="airflow-bgrep")
    assert entry.load().__module__ == "airflow_provider_bgrep.cli.__main__"
    assert (Path(sysconfig.get_path("scripts")) / "airflow-bgrep").is_file()
