# SPDX-License-Identifier: Apache-2.0
"""Benchmark: how right masks are that are made from plain backgrounds, whether their confidence knows it, and
what they cost beside decoding the image.
"""

from __future__ import annotations

import io
import multiprocessing
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from bgrep_harness.cutouts import BACKGROUNDS, Product, as_jpeg, even, on_background, sample_product
from PIL import Image
from polls import QuietMachine
from tables import Goal, Spread, Table

from airflow_provider_bgrep.emulator.render.compose import compose
from airflow_provider_bgrep.emulator.samples import PROMPTS
from airflow_provider_bgrep.emulator.samples.products import PRODUCTS
from airflow_provider_bgrep.emulator.samples.studio import Studio
from airflow_provider_bgrep.images.decode import load
from airflow_provider_bgrep.images.polarity import overlap
from airflow_provider_bgrep.masks.confidence import ENOUGH
from airflow_provider_bgrep.masks.make import make_mask

RIGHT = 0.9
"""A mask is right from this intersection over union."""
PLAIN = 0.97
"""What masks on plain backgrounds should reach."""
SIDES = (1024, 4096)


def pale(product: Product) -> bytes:
    """Return a product on white, of which little of the contrast is left."""
    faded = Product(255 - (255 - product.colors) * np.float32(0.06), product.alpha)
    return on_background(faded, even(255, 255, 255), noise=0.5)


def printed(product: Product) -> bytes:
    """Return a white product on white, whose middle has its colors."""
    faded = 255 - (255 - product.colors) * np.float32(0.03)
    rows, columns = np.nonzero(product.is_kept)
    middle = np.zeros_like(product.is_kept)
    (top, bottom), (left, right) = np.quantile(rows, (0.4, 0.6)), np.quantile(columns, (0.4, 0.6))
    middle[int(top) : int(bottom), int(left) : int(right)] = True
    colors = np.where(middle[:, :, None], product.colors, faded)
    return on_background(Product(colors, product.alpha), even(255, 255, 255), noise=0.5)


def scene(name: str, product: Product) -> bytes:
    """Return a product in the scene of its prompt."""
    colors, alpha = (
        png(Image.fromarray((values * times).astype(np.uint8)))
        for values, times in ((product.colors, 1), (product.alpha, 255))
    )
    task = {"positive_prompt": PROMPTS[name], "guidance_scale": 7.5, "strength": 0.5, "steps": 50, "seed": 0}
    composed = Image.open(io.BytesIO(compose(colors, alpha, task, 0, "")))
    return as_jpeg(np.asarray(composed.convert("RGB")))


def png(image: Image.Image) -> bytes:
    """Return an image as a PNG file."""
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def images_of(name: str) -> tuple[Product, dict[str, bytes]]:
    """Return a product, and its images by kind."""
    product = sample_product(name)
    photo, _ = Studio(PRODUCTS[name](), product.alpha.shape[0]).photograph()
    return product, {
        **{f"plain: {kind}": on_background(product, how) for kind, how in BACKGROUNDS.items()},
        "plain: studio, with its shadow": as_jpeg(np.asarray(photo)),
        "scene": scene(name, product),
        "product nearly white, on white": pale(product),
        "white product with a print, on white": printed(product),
    }


def measure(
    repetitions: int,
    home: str,
    say: Callable[[str], None],
    only: set[str] | None = None,
    patience: float = 60.0,
) -> tuple[Table, dict[str, Any]]:
    """Make the masks of all products on all backgrounds.

    :param repetitions: rounds of the measurement of costs.
    :param home: not used; nothing is written.
    :param say: shows progress.
    :param only: not used.
    :param patience: seconds to wait in total for other programs to become idle; then it measures anyway.
    :return: the table, and every mask.
    """
    found: list[dict[str, Any]] = []
    for name in PRODUCTS:
        product, images = images_of(name)
        for kind, data in images.items():
            made = make_mask(data)
            alike = overlap(np.asarray(made.image) >= 128, product.is_kept)
            found.append({"product": name, "kind": kind, "iou": alike, "confidence": made.confidence})
        say(f"{name} is cut out")
    QuietMachine(patience).wait()
    costs = [cost(side) for side in SIDES for _ in range(repetitions)]
    return table(found, costs), {"masks": found, "costs": costs}


def cost(side: int) -> dict[str, Any]:
    """Return the CPU seconds of one image, and the memory of the process, with decoding alone beside it."""
    photo, _ = Studio(PRODUCTS["mug"](), 900).photograph()
    data = as_jpeg(np.asarray(photo.resize((side, side), Image.Resampling.LANCZOS)))
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        decoding = pool.apply(used, (decode, data))
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        making = pool.apply(used, (make_mask, data))
    return {"side": side, "decode": decoding, "make": making}


def decode(data: bytes) -> npt.NDArray[np.uint8]:
    """Decode an image only."""
    return np.asarray(load(data).convert("RGB"))


def used(work: Callable[[bytes], object], data: bytes) -> tuple[float, float]:
    """Return the CPU seconds of a second call, and the process's highest memory in MB."""
    work(data)
    began = time.process_time()
    work(data)
    return time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def table(found: list[dict[str, Any]], costs: list[dict[str, Any]]) -> Table:
    """Return the table."""
    out = Table(
        "Masks made from product images",
        ["kind of image", "mean IoU", "lowest IoU", "sure", "sure, and wrong"],
    )
    for kind in dict.fromkeys(one["kind"] for one in found):
        some = [one for one in found if one["kind"] == kind]
        ious = [one["iou"] for one in some]
        sure = [one for one in some if one["confidence"] >= ENOUGH]
        wrong = sum(one["iou"] < RIGHT for one in sure)
        out.rows.append(
            [kind, f"{np.mean(ious):.3f}", f"{min(ious):.3f}", f"{len(sure)} of {len(some)}", str(wrong)]
        )
    plain = [one["iou"] for one in found if one["kind"].startswith("plain")]
    bad = [one for one in found if one["iou"] < RIGHT]
    out.goals = [
        Goal("1 - mean IoU on plain backgrounds", 1 - PLAIN, 1 - float(np.mean(plain)), 3),
        Goal(
            f"share of masks below {RIGHT} that are sure",
            0.05,
            sum(one["confidence"] >= ENOUGH for one in bad) / max(1, len(bad)),
        ),
    ]
    for side in SIDES:
        some = [one for one in costs if one["side"] == side]
        spreads = {what: Spread.of([1e3 * one[what][0] for one in some]) for what in ("decode", "make")}
        memory = {what: max(one[what][1] for one in some) for what in ("decode", "make")}
        out.notes.append(
            f"{side} x {side}: {spreads['make'].shown()} ms of CPU and {memory['make']:.0f} MB in all; "
            f"to decode the image alone, {spreads['decode'].shown()} ms and {memory['decode']:.0f} MB."
        )
    out.notes.append(f"{len({one['product'] for one in found})} products of the emulator's, 900 x 900.")
    return out
