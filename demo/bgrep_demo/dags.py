# SPDX-License-Identifier: Apache-2.0
"""Copies the example DAGs and gives their trigger forms values that work in the demo."""

from __future__ import annotations

import re
from pathlib import Path

from airflow_provider_bgrep.emulator.samples import Sample


def copy_dags(source: Path, target: Path, home: Path, sample: Sample) -> Path:
    """Copy DAG files.

    :param source: the folder of the example DAGs.
    :param target: the folder to create.
    :param home: the folder that takes the place of ``~/bgrep`` in the forms.
    :param sample: the image and the mask that the quickstart's form starts with.
    :return: ``target``.
    """
    target.mkdir(parents=True)
    for file in source.glob("*.py"):
        (target / file.name).write_text(with_defaults(file.read_text("utf-8"), home, sample), "utf-8")
    return target


def with_defaults(text: str, home: Path, sample: Sample) -> str:
    """Return the text of a DAG file with other defaults in its form."""
    text = text.replace('Path.home() / "bgrep"', f"Path({str(home)!r})")
    text = re.sub(r'("allow_private_sources": Param\(\s*)False', r"\1True", text)  # as the demo's are
    for field, url in (("image", sample.image), ("mask", sample.mask)):
        # Its title is a form field's last argument where it has no default of its own.
        text = re.sub(rf'(form_field\("{field}", "[^"]*")\)', rf'\1, default="{url}")', text)
    return text
