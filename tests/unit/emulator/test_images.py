# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import http.server
import io
import threading

import numpy as np
import pytest
import requests
from bgrep_harness.drawings import SIDE, packed, product
from PIL import Image

from airflow_provider_bgrep.emulator.render.words import understand
from airflow_provider_bgrep.protocol.limits import MAX_SIDE, MIN_SIDE


def code(answer):
    return answer.json()["code"]


def image(url):
    answer = requests.get(url, timeout=60)
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


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


def test_without_a_seed_each_job_draws_its_own(drawn):
    first, other = drawn(seed=None)[0], drawn(seed=None)[0]
    assert first != other


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
