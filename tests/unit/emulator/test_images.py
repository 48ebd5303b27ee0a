# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import http.server
import io
import subprocess
import sys
import threading

import numpy as np
import pytest
import requests
from PIL import Image

from airflow_provider_bgrep.emulator.render.compose import DRAWN
from airflow_provider_bgrep.emulator.render.words import SCENES, understand
from airflow_provider_bgrep.protocol.limits import MAX_SIDE, MIN_SIDE

SIDE = 420


def code(answer):
    return answer.json()["code"]


def image(url):
    answer = requests.get(url, timeout=60)
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


def packed(image, form="PNG", **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def product(mode="RGB", size=(SIDE, SIDE)):
    """A red disc on gray, and its mask."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    inside = (x - size[0] / 2) ** 2 + (y - size[1] / 2) ** 2 < (min(size) / 3) ** 2
    colors = np.where(inside[:, :, None], (200, 30, 30), (190, 190, 190)).astype(np.uint8)
    mask = Image.fromarray((inside * 255).astype(np.uint8))
    return Image.fromarray(colors).convert(mode), mask


@pytest.fixture
def host():
    """Serves bytes by name on loopback, as an image host would."""
    files: dict[str, bytes] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = files.get(self.path[1:])
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def serve(name, data):
            files[name] = data
            return f"http://127.0.0.1:{server.server_port}/{name}"

        yield serve
        server.shutdown()


@pytest.fixture
def strict(emulator):
    emulator.configure(fetch=True)
    return emulator


@pytest.fixture
def urls(host):
    image, mask = product()
    return host("image.png", packed(image)), host("mask.png", packed(mask))


# --- what is taken ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    ["one channel", "one bit", "three channels", "rgba", "palette", "jpeg", "webp", "soft edge"],
)
def test_the_three_forms_of_a_mask_are_taken(form, strict, api, task, host, urls):
    image, mask = product()
    cut = image.copy()
    cut.putalpha(mask)
    forms = {
        "one channel": packed(mask),
        "one bit": packed(mask.convert("1")),
        "three channels": packed(mask.convert("RGB")),
        "rgba": packed(cut),
        "palette": packed(mask.convert("P")),
        "jpeg": packed(mask, "JPEG", quality=70),
        "webp": packed(cut, "WEBP", lossless=True),
        "soft edge": packed(mask.resize((84, 84)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)),
    }
    answer = api.submit(task(image=urls[0], mask=host("form", forms[form])))
    assert answer.status_code == 200, answer.headers


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("size", [(MIN_SIDE, MIN_SIDE), (MAX_SIDE, MIN_SIDE), (MIN_SIDE, MAX_SIDE)])
def test_images_of_the_named_formats_are_taken_within_the_sizes(form, size, strict, api, task, host):
    image = Image.new("RGB", size, "white")
    assert api.submit(task(image=host("x", packed(image, form)), mask=None)).status_code == 200


@pytest.mark.parametrize(
    "size", [(MIN_SIDE - 1, 900), (900, MIN_SIDE - 1), (MAX_SIDE + 1, 900), (900, MAX_SIDE + 1)]
)
def test_a_side_out_of_range_is_refused(size, strict, api, task, host):
    url = host("x", packed(Image.new("RGB", size)))
    assert code(api.submit(task(image=url, mask=None))) == "23500007"


@pytest.mark.parametrize(("name", "field"), [
    ("too-small", "image"), ("too-large", "image"), ("gif", "image"), ("no-image", "image"),
    ("broken", "image"), ("mask-size", "mask"), ("mask-color", "mask"), ("mask-gray", "mask"),
])  # fmt: skip
def test_what_is_unfit_is_refused(name, field, strict, api, task):
    assert code(api.submit(task(**{field: strict.bad_image(name)}))) == "23500007"


def test_a_mask_with_grey_and_alpha_is_none_of_the_three_forms(strict, api, task, host, urls):
    _, mask = product()
    assert code(api.submit(task(image=urls[0], mask=host("la", packed(mask.convert("LA")))))) == "23500007"


def test_an_image_that_cannot_be_reached_is_refused(strict, api, task, host):
    for url in (host("x", b"") + "-not", "http://127.0.0.1:9/x.png", "http://nowhere.invalid/x.png"):
        assert code(api.submit(task(image=url, mask=None))) == "23500006"


def test_a_marked_image_does_not_pass_the_compliance_check(strict, api, task):
    assert code(api.submit(task(image=strict.bad_image("refused"), mask=None))) == "23500005"


def test_one_bad_image_of_ten_refuses_the_submit(strict, api, task, urls):
    good = task(image=urls[0], mask=urls[1])
    answer = api.submit(*[good] * 9, {**good, "image": strict.bad_image("missing")})
    assert code(answer) == "23500006"
    assert answer.headers["X-Emulator-Detail"].startswith("task 9: image")
    assert strict.counters.images == 0


def test_an_unknown_bad_image_is_an_error_of_the_test(strict):
    with pytest.raises(ValueError, match="unknown bad image 'ugly'"):
        strict.bad_image("ugly")


# --- what is drawn ------------------------------------------------------------------------------


@pytest.fixture
def drawn(strict, api, task, urls):
    def draw(**fields):
        job = api.job(task(**{"image": urls[0], "mask": urls[1], "positive_prompt": "snow", **fields}))
        return [requests.get(url, timeout=60).content for url in api.results(job)]

    return draw


def arrays(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


@pytest.mark.parametrize("scene", DRAWN)
def test_each_scene_keeps_the_product_and_replaces_the_rest(scene, drawn):
    image, mask = product()
    keep = np.asarray(mask) == 255
    prompt = SCENES[scene].split("|")[0]
    assert understand(prompt).scene == scene
    result = arrays(drawn(positive_prompt=prompt)[0])
    assert (result[keep] == np.asarray(image)[keep]).all()
    assert result.shape == (SIDE, SIDE, 3)
    assert np.abs(result[~keep] - np.asarray(image).astype(int)[~keep]).mean() > 10
    assert result[~keep].std() > 5


def test_the_same_request_and_seed_give_the_same_bytes(drawn):
    first, again = drawn(seed=5, num_output=2), drawn(seed=5, num_output=2)
    assert first == again
    assert first[0] != first[1]


def test_the_same_bytes_come_from_another_process(drawn, urls):
    program = (
        "import sys, hashlib, urllib.request as u\n"
        "from airflow_provider_bgrep.emulator.render.compose import compose\n"
        "get = lambda url: u.build_opener(u.ProxyHandler({})).open(url).read()\n"
        "task = dict(positive_prompt='snow', strength=0.5, guidance_scale=7.5, steps=50, seed=5)\n"
        "print(hashlib.sha256(compose(get(sys.argv[1]), get(sys.argv[2]), task, 0, '')).hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, *urls],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert run.stdout.strip() == hashlib.sha256(drawn(seed=5)[0]).hexdigest()


def test_seed_prompt_and_output_number_each_change_the_image(drawn):
    every = [
        drawn(seed=0)[0],
        drawn(seed=1)[0],
        drawn(seed=0, positive_prompt="sea")[0],
        drawn(seed=0, num_output=2)[1],
    ]
    assert len(set(every)) == 4


def test_without_a_seed_each_job_draws_its_own(drawn):
    first, other = drawn(seed=None)[0], drawn(seed=None)[0]
    assert first != other


def test_the_three_forms_of_one_mask_give_the_same_image(drawn, host):
    image, mask = product()
    cut = image.copy()
    cut.putalpha(mask)
    forms = [host("rgb.png", packed(mask.convert("RGB"))), host("rgba.png", packed(cut))]
    one = arrays(drawn()[0])
    assert all((arrays(drawn(mask=form)[0]) == one).all() for form in forms)


def test_without_a_mask_the_product_is_found_by_its_border(drawn):
    image, _ = product()
    result = arrays(drawn(mask=None)[0])
    middle = slice(SIDE // 2 - 40, SIDE // 2 + 40)
    assert (result[middle, middle] == np.asarray(image)[middle, middle]).all()


def test_the_product_casts_a_shadow(drawn, host):
    empty = host("none.png", packed(Image.new("L", (SIDE, SIDE), 0)))
    with_product, without = arrays(drawn()[0]), arrays(drawn(mask=empty)[0])
    foot = with_product[SIDE * 5 // 6 + 3 : SIDE * 5 // 6 + 12, SIDE // 2 - 20 : SIDE // 2 + 20].mean()
    assert foot < without[SIDE * 5 // 6 + 3 : SIDE * 5 // 6 + 12, SIDE // 2 - 20 : SIDE // 2 + 20].mean() - 25


def test_a_low_strength_keeps_some_of_the_source(drawn):
    image, mask = product()
    away = np.asarray(mask) == 0
    near, far = (
        np.abs(arrays(drawn(strength=strength)[0]) - np.asarray(image).astype(int))[away].mean()
        for strength in (0.05, 1.0)
    )
    assert near < 0.6 * far


@pytest.mark.parametrize("size", [(400, 4096), (4096, 400), (1600, 1200)])
def test_the_result_has_the_size_of_the_source(size, drawn, host):
    image, mask = product(size=size)
    fields = {"image": host("i.png", packed(image)), "mask": host("m.png", packed(mask))}
    assert Image.open(io.BytesIO(drawn(**fields)[0])).size == size


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_sources_of_any_mode_are_drawn(mode, drawn, host):
    image, _ = product(mode)
    data = packed(image, "JPEG") if mode == "CMYK" else packed(image)
    assert Image.open(io.BytesIO(drawn(image=host("i", data), mask=None)[0])).mode == "RGB"


def test_scenery_is_drawn_where_the_source_is_gone(strict, api, task, host):
    strict.configure(fetch=False)
    (url,) = api.results(api.job(task(image="http://127.0.0.1:9/gone.png", mask=None)))
    assert image(url).size == (1024, 1024)


def test_what_was_taken_unchecked_is_drawn_as_well_as_it_can_be(strict, api, task, urls):
    strict.configure(fetch=False)
    (url,) = api.results(api.job(task(image=strict.bad_image("no-image"), mask=None)))
    assert image(url).size == (1024, 1024)
    (url,) = api.results(api.job(task(image=urls[0], mask=strict.bad_image("mask-gray"))))
    assert image(url).size == (1024, 1024)


def test_a_result_says_that_it_was_drawn_by_code(drawn):
    assert "no diffusion model" in Image.open(io.BytesIO(drawn()[0])).info["Software"]


@pytest.mark.parametrize(
    ("prompt", "negative", "scene", "light"),
    [
        ("蓝天白云", "", "sky", "day"),
        ("雪山, 日落", "", "mountains", "sunset"),
        ("soft pale yellow silk", "", "silk", "day"),
        ("a rock by the shore of Erhai Lake, blue lake surface and distant mountains", "", "sea", "day"),
        ("snow-capped mountains over a meadow", "", "mountains", "day"),
        ("a warm and modern living room", "", "living room", "warm"),
        ("the sea at night", "", "sea", "night"),
        ("the sea and mountains", "mountains", "sea", "day"),
        ("a knot of chessmen", "", "studio", "day"),
        ("", "", "studio", "day"),
    ],
)
def test_words_choose_scene_and_light(prompt, negative, scene, light):
    wish = understand(prompt, negative)
    assert (wish.scene, wish.light) == (scene, light)


# --- the samples --------------------------------------------------------------------------------


def test_at_least_eight_samples_have_a_prompt_that_sets_a_scene(strict):
    assert len(strict.samples) >= 8
    assert all(understand(sample.prompt).scene != "studio" for sample in strict.samples)


@pytest.mark.parametrize("name", ["bottle", "mug"])
def test_a_sample_has_an_image_and_one_mask_in_three_forms(name, strict):
    (sample,) = [one for one in strict.samples if one.name == name]
    source, single = image(sample.image), image(sample.mask)
    three, cut = image(sample.mask_rgb), image(sample.mask_rgba)
    assert (single.mode, three.mode, cut.mode) == ("L", "RGB", "RGBA")
    assert source.size == single.size == three.size == cut.size
    assert min(source.size) >= 800
    assert (np.asarray(three)[:, :, 0] == np.asarray(single)).all()
    assert (np.asarray(cut)[:, :, 3] == np.asarray(single)).all()
    covered = (np.asarray(single) == 255).mean()
    assert 0.08 < covered < 0.6
    left, top, right, bottom = single.getbbox()
    assert min(left, top, 900 - right, 900 - bottom) > 20, "the product touches the image's edge"


def test_a_sample_with_each_form_of_its_mask_passes_the_checks(strict, api, task):
    sample = strict.samples[0]
    masks = [sample.mask, sample.mask_rgb, sample.mask_rgba]
    assert api.submit(*[task(mask=mask) for mask in masks]).status_code == 200


def test_unknown_samples_are_not_found(strict):
    for name in ("nothing.jpg", "bottle.gif", "bad/nothing", "bottle-mask-blue.png"):
        assert requests.get(f"{strict.url}/samples/{name}", timeout=9).status_code == 404
