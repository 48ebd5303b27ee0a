# SPDX-License-Identifier: Apache-2.0
"""Results: the product to the pixel, on scenery that the prompt, the seed and the output's number choose."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from bgrep_harness.drawings import SIDE, packed, pixels, product
from PIL import Image

from airflow_provider_bgrep.emulator.render.compose import DRAWN, compose
from airflow_provider_bgrep.emulator.render.words import SCENES, understand

TASK = {"positive_prompt": "snow", "strength": 0.5, "guidance_scale": 7.5, "steps": 50, "seed": 0}


def drawn(
    *, image: bytes | None = None, mask: bytes | None = b"", num_output: int = 1, **fields: Any
) -> list[bytes]:
    """Draw an image task's outputs.

    :param image: the source; the product by default.
    :param mask: its mask, ``None`` for none; the product's by default.
    """
    source, own = (packed(one) for one in product())
    task = {name: value for name, value in {**TASK, **fields}.items() if value is not None}
    kept = own if mask == b"" else mask
    return [compose(source if image is None else image, kept, task, i, "job/0") for i in range(num_output)]


@pytest.mark.parametrize("scene", DRAWN)
def test_each_scene_keeps_the_product_and_replaces_the_rest(scene):
    image, mask = product()
    keep = np.asarray(mask) == 255
    prompt = SCENES[scene].split("|")[0]
    assert understand(prompt).scene == scene
    result = pixels(drawn(positive_prompt=prompt)[0])
    assert (result[keep] == np.asarray(image)[keep]).all()
    assert result.shape == (SIDE, SIDE, 3)
    assert np.abs(result[~keep] - np.asarray(image).astype(int)[~keep]).mean() > 10
    assert result[~keep].std() > 5


@pytest.mark.slow
def test_the_same_request_and_seed_give_the_same_bytes():
    first, again = drawn(seed=5, num_output=2), drawn(seed=5, num_output=2)
    assert first == again
    assert first[0] != first[1]


def test_a_plain_background_is_replaced_around_the_product():
    image, mask = (packed(one) for one in product())
    first, again, other = (compose(image, mask, {**TASK, "seed": seed}, 0, "", "plain") for seed in (1, 1, 2))
    assert first == again != other
    keep, whole = np.asarray(product()[1]) == 255, pixels(packed(product()[0]))
    assert (pixels(first)[keep] == whole[keep]).all()
    assert np.abs(pixels(first)[~keep] - whole[~keep]).mean() > 10
    assert pixels(first)[0, 0].tolist() == pixels(first)[0, -1].tolist()


@pytest.mark.slow
def test_the_same_bytes_come_from_another_process(tmp_path):
    program = (
        "import sys, hashlib, pathlib\n"
        "from airflow_provider_bgrep.emulator.render.compose import compose\n"
        "files = [pathlib.Path(name).read_bytes() for name in sys.argv[1:]]\n"
        "task = dict(positive_prompt='snow', strength=0.5, guidance_scale=7.5, steps=50, seed=5)\n"
        "print(hashlib.sha256(compose(*files, task, 0, '')).hexdigest())"
    )
    files = [tmp_path / name for name in ("image.png", "mask.png")]
    for file, image in zip(files, product(), strict=True):
        file.write_bytes(packed(image))
    run = subprocess.run(
        [sys.executable, "-c", program, *map(str, files)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert run.stdout.strip() == hashlib.sha256(drawn(seed=5)[0]).hexdigest()


@pytest.mark.slow
def test_seed_prompt_and_output_number_each_change_the_image():
    every = [
        drawn(seed=0)[0],
        drawn(seed=1)[0],
        drawn(seed=0, positive_prompt="sea")[0],
        drawn(seed=0, num_output=2)[1],
    ]
    assert len(set(every)) == 4


@pytest.mark.slow
def test_the_three_forms_of_one_mask_give_the_same_image():
    image, mask = product()
    cut = image.copy()
    cut.putalpha(mask)
    forms = [packed(mask.convert("RGB")), packed(cut)]
    one = pixels(drawn()[0])
    assert all((pixels(drawn(mask=form)[0]) == one).all() for form in forms)


def test_without_a_mask_the_product_is_found_by_its_border():
    image, _ = product()
    result = pixels(drawn(mask=None)[0])
    middle = slice(SIDE // 2 - 40, SIDE // 2 + 40)
    assert (result[middle, middle] == np.asarray(image)[middle, middle]).all()


def test_the_product_casts_a_shadow():
    empty = packed(Image.new("L", (SIDE, SIDE), 0))
    with_product, without = pixels(drawn()[0]), pixels(drawn(mask=empty)[0])
    foot = with_product[SIDE * 5 // 6 + 3 : SIDE * 5 // 6 + 12, SIDE // 2 - 20 : SIDE // 2 + 20].mean()
    assert foot < without[SIDE * 5 // 6 + 3 : SIDE * 5 // 6 + 12, SIDE // 2 - 20 : SIDE // 2 + 20].mean() - 25


def test_a_low_strength_keeps_some_of_the_source():
    image, mask = product()
    away = np.asarray(mask) == 0
    near, far = (
        np.abs(pixels(drawn(strength=strength)[0]) - np.asarray(image).astype(int))[away].mean()
        for strength in (0.05, 1.0)
    )
    assert near < 0.6 * far


@pytest.mark.slow
@pytest.mark.parametrize("size", [(400, 4096), (4096, 400), (1600, 1200)])
def test_the_result_has_the_size_of_the_source(size):
    image, mask = product(size=size)
    fields = {"image": packed(image), "mask": packed(mask)}
    assert Image.open(io.BytesIO(drawn(**fields)[0])).size == size


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_sources_of_any_mode_are_drawn(mode):
    image, _ = product(mode)
    data = packed(image, "JPEG") if mode == "CMYK" else packed(image)
    assert Image.open(io.BytesIO(drawn(image=data, mask=None)[0])).mode == "RGB"


def test_a_result_says_that_it_was_drawn_by_code():
    assert "no diffusion model" in Image.open(io.BytesIO(drawn()[0])).info["Software"]


@pytest.mark.slow
def test_without_a_seed_the_jobs_place_takes_its_place():
    image, mask = (packed(one) for one in product())
    task = {name: value for name, value in TASK.items() if name != "seed"}
    one, again, other = (compose(image, mask, task, 0, seed) for seed in ("a/0", "a/0", "a/1"))
    assert one == again != other


@pytest.mark.slow
@pytest.mark.parametrize("source", [None, b"", b"no image"])
def test_without_a_source_only_scenery_is_drawn(source):
    found = Image.open(io.BytesIO(compose(source, None, TASK, 0, "")))
    assert (found.size, found.mode) == ((1024, 1024), "RGB")


def test_a_mask_of_another_size_is_scaled():
    image, mask = product()
    large = packed(mask.resize((840, 840)))
    middle = slice(SIDE // 2 - 40, SIDE // 2 + 40)
    found = pixels(drawn(mask=large)[0])
    assert (found[middle, middle] == np.asarray(image)[middle, middle]).all()


def test_fewer_steps_make_more_grain():
    rough, fine = (pixels(drawn(steps=steps, positive_prompt="plain")[0]) for steps in (15, 50))
    corner = slice(5, 60)
    assert np.diff(rough[corner, corner], axis=1).std() > np.diff(fine[corner, corner], axis=1).std()


def test_every_scene_of_the_words_is_drawn():
    assert DRAWN.keys() == SCENES.keys()
