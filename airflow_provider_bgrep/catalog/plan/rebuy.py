# SPDX-License-Identifier: Apache-2.0
"""Finds out whether a plan would submit a large share of the catalog again, and why."""

from __future__ import annotations

from typing import Final

from airflow_provider_bgrep.catalog.model.states import RowState
from airflow_provider_bgrep.catalog.plan.decision import in_edition
from airflow_provider_bgrep.catalog.plan.diff import Join
from airflow_provider_bgrep.catalog.state.progress import in_sql
from airflow_provider_bgrep.figures import counted
from airflow_provider_bgrep.generation.outcomes import Outcome

_LEAST: Final = 10
"""Number of rows up to which a plan never needs approval for this reason."""

_NOT_SUBMITTED: Final = in_sql({RowState.INVALID.value, RowState.QUARANTINED.value, RowState.BLOCKED.value})
"""States of rows that this run and later ones do not submit, although something about them has changed."""

_SHOWN: Final = 5
"""Reasons that are named."""

_QUERY_HINT: Final = (
    " If parameters of the URLs only grant access, name them in ignored_url_parameters and start a new run: "
    "these rows are then unchanged."
)


def rebuy_reason(join: Join, gone: int) -> str:
    """Return why a plan needs approval, if it submits more than ``max_rebuy_share`` of the rows again.

    A row is submitted again if something about it has changed, and also if its name has changed: then the
    image of a new row is that of a published row that is no longer in the catalog. A row that is submitted
    again because it failed does not count. Neither does one without a billable submit in this ``edition``: an
    edition is new for each row until the row is billable in it, in whichever run.

    :param join: with the tables ``decided`` and ``gone``, and with all purchases in ``entries``.
    :param gone: how many published rows are no longer in the catalog.
    :return: ``""`` if it does not.
    """
    most = join.options.max_rebuy_share
    own = in_edition("e", join.recipe.edition)
    images = (
        "SELECT g.image FROM gone g JOIN entries e ON e.name = g.name "
        f"WHERE g.image <> '' AND {own} AND e.outcome <> '{Outcome.REFUSED.value}'"
    )
    of_gone = f"image IN ({images})" if gone else "false"
    found = join.db.execute(
        "SELECT why, count(*) AS many FROM (SELECT CASE WHEN is_billable THEN changed WHEN NOT is_new THEN "
        f"'' WHEN {of_gone} THEN 'name (its image is that of a row that is gone)' ELSE '' END AS why "
        f"FROM decided WHERE decision = 'submit' AND state NOT IN {_NOT_SUBMITTED}) "
        "WHERE why <> '' AND NOT starts_with(why, 'tried again') GROUP BY why ORDER BY many DESC, why"
    ).fetchall()
    again = sum(many for _, many in found)
    rows = join.rows.count
    if again <= _LEAST or again <= most * rows:
        return ""
    named = ", ".join(f"{why}: {counted(many, 'row')}" for why, many in found[:_SHOWN])
    more = f", and {len(found) - _SHOWN} other reasons" if len(found) > _SHOWN else ""
    hint = _QUERY_HINT if any("only its query" in why for why, _ in found) else ""
    return (
        f"{again} of {rows} rows ({again / rows:.0%}) would be submitted again, which is more than "
        f"max_rebuy_share ({most:.0%}). What has changed: {named}{more}.{hint}"
    )
