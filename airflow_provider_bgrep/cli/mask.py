# SPDX-License-Identifier: Apache-2.0
"""Makes masks of product images."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.cli.arguments import DRY_RUN, add_json, add_yes
from airflow_provider_bgrep.cli.command import FREE, Command, ExitCode
from airflow_provider_bgrep.cli.errors import UsageError
from airflow_provider_bgrep.cli.output import Output

if TYPE_CHECKING:
    from airflow_provider_bgrep.masks.batch import FileResult

_PAGE: Final = "masks.html"

_DESCRIPTION: Final = f"""\
Make the masks of product images whose background is plain (white, or of an even color, also with the
product's shadow) or transparent. Put their paths into the catalog's column mask.

Each mask has a confidence from 0 to 1. Those with at least --least are written to --out, as NAME-mask.png;
the others to its folder doubtful: check them before you use them. {_PAGE} in --out shows all images beside
their cut-outs, the doubtful ones first. Without --yes, masks are made and judged, and not written.

A mask has the size of its image, and its EXIF orientation. 255 keeps a pixel. It needs the extra masks.

Exit code 1: a mask is doubtful, or an image cannot be used.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "image", metavar="IMAGE", nargs="+", help="absolute paths or URLs: images, or folders of images"
    )
    parser.add_argument(
        "--out", required=True, metavar="FOLDER", help="absolute path or URL of the folder for the masks"
    )
    parser.add_argument(
        "--least",
        type=_share,
        metavar="CONFIDENCE",
        help="confidence from which a mask is not doubtful, 0 to 1 (default: 0.8)",
    )
    add_yes(parser)
    add_json(parser)


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1")
    return value


def run(given: argparse.Namespace, out: Output) -> ExitCode:
    """Make masks, and print how certain they are.

    :raises UsageError: if the packages of the extra ``masks`` are missing.
    """
    missing = [name for name in ("cv2", "numpy", "skimage") if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"mask needs packages that are not installed ({', '.join(missing)}). "
            "Run: pip install 'airflow-provider-bgrep[masks]'"
        )
    from airflow_provider_bgrep.masks.batch import image_files, make_masks
    from airflow_provider_bgrep.masks.confidence import ENOUGH
    from airflow_provider_bgrep.masks.page import MaskPage
    from airflow_provider_bgrep.storage import absolute_path, put_bytes
    from airflow_provider_bgrep.store_errors import store_errors

    least = ENOUGH if given.least is None else given.least
    folder = absolute_path("--out", given.out)
    files = image_files(given.image)
    page = MaskPage(least)
    rows: list[dict[str, Any]] = []
    for result in make_masks(files, folder, least, writes=given.yes):
        page.add(result)
        # Images are large: only what is printed is kept.
        rows.append(_as_dict(result))
    if given.yes:
        target = folder / _PAGE
        with store_errors(target):
            put_bytes(page.render(), target)
    if given.json:
        out.json({"is_written": given.yes, "least": least, "images": rows})
    else:
        _print(rows, out, is_written=given.yes, page=f"{folder}/{_PAGE}")
    return ExitCode.PROBLEMS if any(row["status"] != "sure" for row in rows) else ExitCode.OK


def _as_dict(result: FileResult) -> dict[str, Any]:
    made = result.made
    if made is None:
        return {"image": result.image, "status": "invalid", "reason": result.problem}
    return {
        "image": result.image,
        "status": "doubtful" if result.is_doubtful else "sure",
        "mask": result.mask,
        "method": made.method.value,
        "confidence": round(made.confidence, 3),
        "area": round(made.area, 4),
        "doubts": list(made.doubts),
    }


def _print(rows: list[dict[str, Any]], out: Output, *, is_written: bool, page: str) -> None:
    out.table(("image", "confidence", "area", "status", "what"), [_cells(row) for row in rows])
    out.line()
    counts = Counter(row["status"] for row in rows)
    out.line(f"Masks: {counts['sure']} sure, {counts['doubtful']} doubtful. Invalid: {counts['invalid']}.")
    out.line(f"To see them: {page}" if is_written else DRY_RUN)


def _cells(row: Mapping[str, Any]) -> tuple[object, ...]:
    name = str(row["image"]).rpartition("/")[2]
    if row["status"] == "invalid":
        return name, "", "", "invalid", row["reason"]
    what = "; ".join(row["doubts"]) or row["mask"] or row["method"]
    return name, f"{row['confidence']:.2f}", f"{row['area']:.0%}", row["status"], what


COMMAND: Final = Command(
    name="mask",
    help="make the masks of product images with a plain or transparent background",
    description=_DESCRIPTION,
    cost=FREE,
    examples=(
        "mask /data/images --out /data/masks",
        "mask s3://my_s3@shop/images/mug.jpg --out s3://my_s3@shop/masks --least 0.9 --yes --json",
    ),
    add_arguments=add_arguments,
    run=run,
)
