# SPDX-License-Identifier: Apache-2.0
"""The command that checks a store."""

from __future__ import annotations

import json
import subprocess

import pytest
from bgrep_harness.stores import Files, OverwritingFiles, folder_on

from airflow_provider_bgrep.cli.__main__ import main
from airflow_provider_bgrep.client import without_waiting
from airflow_provider_bgrep.storage import connection_of


def test_a_safe_store_ends_with_0_and_a_table(tmp_path, capsys):
    assert main(["check-storage", str(tmp_path / "shop")]) == 0
    printed = capsys.readouterr().out
    assert str(tmp_path / "shop") in printed
    assert "exclusive" in printed
    assert "SAFE" in printed


def test_the_connection_is_an_option_or_in_the_path(capsys):
    path = folder_on(OverwritingFiles({}))
    assert main(["check-storage", "memory://shop/images", "--conn-id", str(connection_of(path))]) == 1
    assert main(["check-storage", f"memory://{connection_of(path)}@shop/images"]) == 1
    assert "NOT SAFE for concurrent runs" in capsys.readouterr().out


def test_json_has_the_whole_report(tmp_path, capsys):
    assert main(["check-storage", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["is_safe"] is True
    assert {one["level"] for one in found["findings"]} == {"ok"}


def test_s3_is_checked_by_its_connection(s3_folder, capsys):
    with without_waiting():
        given = [f"s3://{s3_folder.path}", "--conn-id", str(connection_of(s3_folder))]
        assert main(["check-storage", *given]) == 0
    assert "presigned" in capsys.readouterr().out


def test_what_cannot_be_tried_ends_with_4(tmp_path, capsys):
    class ReadOnly(Files):
        def _put(self, path: str, data: bytes) -> None:
            raise PermissionError("read only")

    assert main(["check-storage", f"memory://{connection_of(folder_on(ReadOnly({})))}@shop"]) == 4
    assert "NOT CHECKED" in capsys.readouterr().out
    (tmp_path / "file").write_text("a file")
    assert main(["check-storage", str(tmp_path / "file")]) == 4


def test_a_path_that_cannot_be_one_ends_with_2(capsys):
    assert main(["check-storage", "shop/images"]) == 2
    assert "absolute path" in capsys.readouterr().err
    assert main(["check-storage", "oss3://shop/images"]) == 2
    assert "cannot reach" in capsys.readouterr().err


@pytest.mark.slow
def test_the_output_of_the_command_is_nothing_but_json(tmp_path):
    """Airflow logs to the standard output, too."""
    command = ["airflow-bgrep", "check-storage", "--json", f"file://{tmp_path}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, json.loads(ended.stdout)["is_safe"]) == (0, True)
