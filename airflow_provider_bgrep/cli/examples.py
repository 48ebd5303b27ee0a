# SPDX-License-Identifier: Apache-2.0
"""Copies the example DAGs from the installed package."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from airflow_provider_bgrep.cli.arguments import add_json
from airflow_provider_bgrep.cli.command import FREE, Command, ExitCode
from airflow_provider_bgrep.cli.errors import UsageError
from airflow_provider_bgrep.cli.output import Output

FOLDER: Final = "example_dags"
"""The folder in the wheel. In the repository, its files are in ``dags/``: see ``pyproject.toml``."""

_DESCRIPTION: Final = """\
Copy the example DAGs into a folder: bgrep_quickstart.py generates images of one product,
bgrep_catalog_refresh.py keeps the images of a catalog up to date. Both have a trigger form.

Existing files that differ are not replaced without --force; then nothing is copied.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder of DAGs; it is created if need be")
    parser.add_argument("--force", action="store_true", help="replace files that differ")
    add_json(parser)


def example_dags() -> list[Traversable]:
    """Return the example DAGs of the installed package, by name."""
    folder = files("airflow_provider_bgrep") / FOLDER
    found = (one for one in folder.iterdir() if one.name.endswith(".py")) if folder.is_dir() else ()
    return sorted(found, key=lambda one: one.name)


def run(given: argparse.Namespace, out: Output) -> ExitCode:
    """Copy the examples.

    :raises UsageError: if a file exists and differs, or the folder cannot be written to.
    """
    examples = example_dags()
    if not examples:
        raise UsageError(
            "This installation has no example DAGs: install airflow-provider-bgrep from its wheel"
        )
    folder = given.folder.expanduser().absolute()
    if not given.force and (others := list(_differing(examples, folder))):
        raise UsageError(
            f"{', '.join(map(str, others))} would be replaced by the example of the same name; give another "
            "DIR, or --force. Nothing was copied"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for one in examples:
            (folder / one.name).write_bytes(one.read_bytes())
    except OSError as error:
        raise UsageError(f"DIR {folder} cannot be written to: {error.strerror}; give another one") from None
    copied = [str(folder / one.name) for one in examples]
    if given.json:
        out.json({"copied": copied})
    else:
        for path in copied:
            out.line(path)
    return ExitCode.OK


def _differing(examples: list[Traversable], folder: Path) -> Iterator[Path]:
    for one in examples:
        path = folder / one.name
        if path.exists() and not (path.is_file() and path.read_bytes() == one.read_bytes()):
            yield path


COMMAND: Final = Command(
    name="examples",
    help="copy the example DAGs",
    description=_DESCRIPTION,
    cost=f"{FREE} The DAGs submit nothing until you trigger them.",
    examples=("examples ~/airflow/dags",),
    add_arguments=add_arguments,
    run=run,
)
