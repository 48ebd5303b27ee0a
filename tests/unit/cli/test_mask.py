# SPDX-License-Identifier: Apache-2.0
"""The command that makes masks."""

from __future__ import annotations

import json

import pytest
from bgrep_harness.cutouts import drawn_product, even, on_background

from airflow_provider_bgrep.cli.__main__ import main


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "mug.jpg").write_bytes(on_background(drawn_product(), even(255, 255, 255)))
    return folder


def test_without_yes_nothing_is_written(images, tmp_path, capsys):
    out = tmp_path / "masks"
    assert main(["mask", str(images), "--out", str(out)]) == 0
    assert not out.exists()
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].split() == ["image", "confidence", "area", "status", "what"]
    assert printed.splitlines()[1].split()[:2] == ["mug.jpg", "1.00"]
    assert "--yes" in printed


def test_with_yes_masks_and_their_page_are_written(images, tmp_path, capsys):
    out = tmp_path / "masks"
    (images / "bad.jpg").write_bytes(b"bad")
    assert main(["mask", f"file://{images}", "--out", f"file://{out}", "--yes", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [one["status"] for one in found["images"]] == ["invalid", "sure"]
    assert found["images"][1]["mask"].endswith("/masks/mug-mask.png")
    assert sorted(path.name for path in out.iterdir()) == ["masks.html", "mug-mask.png"]


@pytest.mark.parametrize("least", ["1.1", "-1", "many"])
def test_a_confidence_is_a_share(images, least, capsys):
    with pytest.raises(SystemExit) as error:
        main(["mask", str(images), "--out", "/masks", "--least", least])
    assert error.value.code == 2
    assert "--least" in capsys.readouterr().err


def test_paths_are_checked_first(capsys):
    assert main(["mask", "/nowhere/a.jpg", "--out", "masks"]) == 2
    assert "--out" in capsys.readouterr().err
