# SPDX-License-Identifier: Apache-2.0
"""The command that reports invalid rows."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from bgrep_harness.images import draw_images, served
from bgrep_harness.refresh import as_csv
from bgrep_harness.runs import row

from airflow_provider_bgrep.cli.__main__ import main
from airflow_provider_bgrep.storage import put_bytes


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    file = tmp_path / "catalog.csv"
    file.write_bytes(as_csv([row("a"), row("b", image="no URL"), row("c", steps=99)]))
    return file


def test_each_invalid_row_has_line_column_and_reason(catalog, capsys):
    assert main(["validate", str(catalog)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"2 of 3 rows in {catalog} are invalid."
    assert lines[2].split() == ["line", "column", "sku", "reason"]
    assert lines[3].split()[:3] == ["3", "image", "b"]
    assert lines[4].split()[:3] == ["4", "steps", "c"]
    assert any(line.startswith("Read CSV in utf-8") for line in lines)


def test_a_valid_catalog_ends_with_0(tmp_path, capsys):
    file = tmp_path / "catalog.jsonl"
    file.write_text('{"sku": "a", "image": "https://shop.example/a.jpg", "color": "red"}\n')
    defaults = tmp_path / "defaults.json"
    defaults.write_text('{"positive_prompt": "A {{ color }} cup"}')
    assert main(["validate", f"file://{file}", "--defaults", f"@{defaults}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["invalid"]) == (1, [])
    assert found["catalog"].endswith("catalog.jsonl")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/nowhere/catalog.csv"], "/nowhere/catalog.csv"),
        (["catalog.csv"], "catalog: is 'catalog.csv'"),
        (["/nowhere/catalog.csv", "--defaults", "{"], "defaults"),
        (["/nowhere/catalog.csv", "--defaults", "@/nowhere/defaults.json"], "--defaults is @/nowhere"),
        (["s3://shop/catalog.csv?Signature=canary0secret", "--source", '{"format": 1}'], "source"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_2(arguments, words, capsys):
    assert main(["validate", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = (one for one in printed.err.splitlines() if one.startswith("error: "))
    assert words in line
    assert "canary0secret" not in printed.err
    assert "Traceback" not in printed.err


def test_images_are_read_on_request_only(tmp_path, capsys):
    draw_images(tmp_path / "site")
    with served(tmp_path / "site") as url:
        cells = {"image": f"{url}/missing.png"}
        file = tmp_path / "catalog.csv"
        file.write_bytes(as_csv([row("a", **cells)]))
        private = ["--source", '{"allow_private_sources": true}']
        assert main(["validate", str(file), *private]) == 0
        assert main(["validate", str(file), *private, "--check-sources", "all"]) == 1
    assert "404" in capsys.readouterr().out


def test_a_catalog_on_s3_is_read(s3_folder, capsys):
    put_bytes(as_csv([row("a"), row("b", steps=1)]), s3_folder / "catalog.csv")
    assert main(["validate", str(s3_folder / "catalog.csv"), "--json"]) == 1
    assert [one["line"] for one in json.loads(capsys.readouterr().out)["invalid"]] == [3]


@pytest.mark.slow
def test_the_installed_command_prints_json_only(catalog):
    command = ["airflow-bgrep", "validate", str(catalog), "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert len(json.loads(ended.stdout)["invalid"]) == 2
