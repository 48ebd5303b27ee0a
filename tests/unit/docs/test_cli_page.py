# SPDX-License-Identifier: Apache-2.0
"""The page about the command line has every command and exit code, as the parsers have them."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

from airflow_provider_bgrep.cli.__main__ import COMMANDS, parser

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "cli.rst").read_text(encoding="utf-8")


def test_the_page_renders_the_parsers():
    assert ".. bgrep-exit-codes::" in PAGE
    assert ".. bgrep-commands::" in PAGE


def test_each_command_is_rendered_with_its_arguments():
    found = dict(runpy.run_path(str(DOCS / "_ext" / "command_help.py"))["command_help"]())
    assert list(found) == [f"airflow-bgrep {command.name}" for command in COMMANDS]
    for command in COMMANDS:
        text = found[f"airflow-bgrep {command.name}"]
        assert text.startswith(f"usage: airflow-bgrep {command.name}")
        assert command.description.splitlines()[0] in text
        assert command.examples[0] in text
        assert "exit codes:" not in text


def test_examples_on_all_pages_and_in_the_readme_are_valid():
    files = (*DOCS.glob("*.rst"), DOCS.parent / "README.md")
    texts = [file.read_text(encoding="utf-8") for file in files]
    lines = [line for text in texts for line in re.findall(r"^ *airflow-bgrep (.+)$", text, re.MULTILINE)]
    assert len(lines) >= 15
    for line in lines:
        assert parser().parse_args(shlex.split(line.partition(" > ")[0], comments=True)).command in COMMANDS
