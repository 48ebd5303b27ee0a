# SPDX-License-Identifier: Apache-2.0
"""The command that copies the example DAGs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from airflow_provider_bgrep.cli.__main__ import main
from airflow_provider_bgrep.cli.examples import example_dags

DAGS = {path.name: path.read_bytes() for path in (Path(__file__).parents[3] / "dags").glob("*.py")}


def test_the_wheel_has_all_dags_of_the_repository():
    assert len(DAGS) >= 2
    assert {one.name: one.read_bytes() for one in example_dags()} == DAGS


def test_they_are_copied_into_a_new_folder(tmp_path):
    folder = tmp_path / "airflow" / "dags"
    command = ["airflow-bgrep", "examples", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout.splitlines()) == (0, [str(folder / one) for one in sorted(DAGS)])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == DAGS


def test_a_file_that_differs_is_replaced_by_force_only(tmp_path, capsys):
    (tmp_path / "other.py").write_text("mine")
    (tmp_path / "bgrep_quickstart.py").write_text("changed")
    assert main(["examples", str(tmp_path)]) == 2
    assert "bgrep_quickstart.py would be replaced" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"other.py", "bgrep_quickstart.py"}
    assert (tmp_path / "bgrep_quickstart.py").read_text() == "changed"
    assert main(["examples", str(tmp_path), "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["copied"] == [str(tmp_path / one) for one in sorted(DAGS)]
    assert main(["examples", str(tmp_path)]) == 0
    assert (tmp_path / "other.py").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["examples", str(tmp_path / "file" / "dags")]) == 2
    assert f"DIR {tmp_path / 'file' / 'dags'} cannot be written to" in capsys.readouterr().err
