# SPDX-License-Identifier: Apache-2.0
"""Finds the published rows that the catalog does not name any more, and decides if they are removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa

from airflow_provider_bgrep.catalog.model.states import NOT_REMOVED, RowState
from airflow_provider_bgrep.figures import counted
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.plan.diff import Join

_MANY: Final = 10
"""Number of rows from which a catalog that lacks most published rows is taken for incomplete."""

_MOST_LOST: Final = 0.5
"""Share of the published rows that a catalog may lack, unless ``max_removed_share`` is larger.

Each row that cannot be read may be one that is published: such rows are counted neither as lost nor as
published.
"""


def find_gone(join: Join) -> int:
    """Fill ``gone`` with the rows that are published, and that the catalog does not name any more.

    :param join: after the rows were listed, see :func:`~.work_items.list_rows`.
    :return: how many they are; 0 before anything is published.
    """
    (live,) = join.one("SELECT count(*) FROM live")
    if live == join.unchanged:
        return 0  # each unchanged row is live, under a name of its own
    invalid = join.catalog.invalid
    keys = pa.array([*(row.sku for row in invalid), *(row.name for row in invalid)], pa.string())
    join.db.register("invalid_keys", pa.table({"key": keys}))
    # What was published as the sku MUG-1/side may be a view of MUG-1 in the catalog now, or the reverse.
    keys_of_live = ("l.sku", "l.name", "regexp_replace(l.name, '/[^/]*$', '')")
    may_be = (f"ANTI JOIN (FROM invalid_keys) i ON i.key = {key}" for key in keys_of_live)
    join.db.execute(
        "CREATE OR REPLACE TABLE gone AS SELECT l.name, l.sku, l.view, l.image FROM live l "
        "ANTI JOIN known k ON k.live = l.place "
        f"ANTI JOIN cat ON cat.name = l.name {' '.join(may_be)}"
    )
    join.db.unregister("invalid_keys")
    (gone,) = join.one("SELECT count(*) FROM gone")
    return int(gone)


def remove_gone(join: Join, gone: int) -> None:
    """Decide about the rows that :func:`find_gone` has found.

    :param join: after :func:`find_gone`.
    :param gone: how many they are.
    :raises InvalidInput: if the catalog has lost most of the published rows.
    """
    if join.options.on_removed == "keep" or not gone:
        return
    (live,) = join.one("SELECT count(*) FROM live")
    most, unreadable = join.options.max_removed_share, join.catalog.unreadable
    of_live = f"{gone} of {live} published rows ({gone / live:.0%})"
    explained = min(gone, unreadable)
    lost = gone - explained  # certainly
    if lost >= _MANY and lost / (live - explained) > max(most, _MOST_LOST):
        also = f", and {counted(unreadable, 'row')} cannot be read{_first_unreadable(join)}"
        what = (
            f"lacks {of_live}{also if unreadable else ''}: it is incomplete, or its skus have changed. "
            "Nothing is planned. If it is right, set max_removed_share to 1 for one run, or on_removed "
            "to 'keep'"
        )
        raise InvalidInput([Problem("catalog", what)])
    if unreadable:
        join.notes.append(
            f"{counted(gone, 'published row')} {'is' if gone == 1 else 'are'} not in the catalog; none "
            f"is removed, because {counted(unreadable, 'row')} cannot be read, and may be theirs."
        )
        if lost:  # the others need attention already, as invalid rows
            join.attention[NOT_REMOVED] += lost
    elif gone / live > most and gone > 1:
        join.notes.append(
            f"{of_live} are not in the catalog; none is removed, because that is more than "
            f"max_removed_share ({most:.0%}). If the catalog is right, set max_removed_share to 1 for "
            "one run."
        )
        join.attention[NOT_REMOVED] += gone
    else:
        removed = RowState.REMOVED.value
        join.db.execute(f"INSERT INTO rows SELECT name, sku, view, NULL, '{removed}', '' FROM gone")


def _first_unreadable(join: Join) -> str:
    """Where the first row is that cannot be read, and why, in parentheses."""
    return next((f" (line {row.line}: {row.reason})" for row in join.catalog.unread_rows), "")
