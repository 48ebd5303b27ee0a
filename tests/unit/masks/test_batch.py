# SPDX-License-Identifier: Apache-2.0
"""Masks of many image files: one bad file does not stop the others, and doubtful masks are put aside."""

from __future__ import annotations

import numpy as np
import pytest
from bgrep_harness.cutouts import drawn_product, even, on_background

from airflow_provider_bgrep.masks.batch import DOUBTFUL, image_files, make_masks
from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.storage import storage_path

WHITE = even(255, 255, 255)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(on_background(drawn_product(), WHITE))
    (folder / "b.jpg").write_bytes(on_background(drawn_product(color="#f9f9f9"), WHITE))
    (folder / "c.jpg").write_bytes(b"<html>not an image</html>")
    (folder / "notes.txt").write_text("not an image")
    (folder / "old-mask.png").write_bytes(b"a mask")
    return folder


@pytest.mark.parametrize("writes", [True, False])
def test_each_file_ends_in_a_result(images, tmp_path, writes):
    out = tmp_path / "masks"
    files = image_files([str(images)])
    assert [file.name for file in files] == ["a.jpg", "b.jpg", "c.jpg"]
    a, b, c = make_masks(files, storage_path(str(out)), 0.8, writes=writes)
    assert (a.is_doubtful, b.is_doubtful, c.made) == (False, True, None)
    assert "not an image" in c.problem
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert written == (["a-mask.png", f"{DOUBTFUL}/b-mask.png"] if writes else [])
    assert (a.mask is not None) is writes


def test_a_file_that_is_named_may_have_any_name(images):
    (file,) = image_files([str(images / "notes.txt")])
    (result,) = make_masks([file], storage_path(str(images)), 0.8, writes=False)
    assert result.made is None


def test_a_file_that_vanishes_is_a_result(images):
    files = image_files([str(images / "a.jpg")])
    (images / "a.jpg").unlink()
    (result,) = make_masks(files, storage_path(str(images)), 0.8, writes=False)
    assert "empty or missing" in result.problem


def test_all_paths_that_name_nothing_are_reported(images, tmp_path):
    with pytest.raises(InvalidInput) as error:
        image_files([str(images), str(tmp_path / "nothing"), "relative.jpg"])
    assert len(error.value.problems) == 2


def test_masks_of_one_name_are_refused(images):
    (images / "a.png").write_bytes((images / "a.jpg").read_bytes())
    with pytest.raises(InvalidInput, match=r"same name"):
        image_files([str(images)])


def test_the_least_confidence_decides(images):
    (file,) = image_files([str(images / "b.jpg")])
    (result,) = make_masks([file], storage_path(str(images)), 0.0, writes=False)
    assert not result.is_doubtful
    assert np.asarray(result.made.image).any()
