# SPDX-License-Identifier: Apache-2.0
"""What the commands have in common that record a decision about rows: which rows, why, who, and ``--yes``."""

from __future__ import annotations

import argparse
import getpass
from typing import TYPE_CHECKING, Final

from airflow_provider_bgrep.cli.arguments import add_destination, add_json, add_yes

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.mark.decisions import Decision

RULES: Final = """\
SKU is the sku, for all of its views, or the name of one row: sku/view, and sku/main for the main view alone.
Without --yes, the command says what it would do, and writes nothing. It is safe beside a run, and can be
repeated if it was killed."""
"""What the help of each of these commands says."""


def add_rows(parser: argparse.ArgumentParser) -> None:
    """Add the rows, the destination, and ``--yes``."""
    parser.add_argument("sku", metavar="SKU", nargs="+", help="skus, or names of rows: sku/view")
    add_destination(parser)
    add_yes(parser)
    add_json(parser)


def add_decision(parser: argparse.ArgumentParser, why: str) -> None:
    """Add what :func:`add_rows` adds, the reason, and who decides.

    :param why: what the reason is about.
    """
    add_rows(parser)
    add_reason(parser, why)


def add_reason(parser: argparse.ArgumentParser, why: str) -> None:
    """Add the reason, and who decides.

    :param why: what the reason is about.
    """
    parser.add_argument("--reason", default="", metavar="TEXT", help=f"why {why}, for people")
    parser.add_argument("--by", metavar="WHO", help="who decides, for people (default: the user's name)")


def decision_of(given: argparse.Namespace) -> Decision:
    """Return the decision that was given.

    :raises InvalidInput: if a text is too long.
    """
    from airflow_provider_bgrep.catalog.mark.decisions import Decision

    return Decision.now(given.reason, _user() if given.by is None else given.by)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name; KeyError before Python 3.13
        return ""
