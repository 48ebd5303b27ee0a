# SPDX-License-Identifier: Apache-2.0
"""Finds out whether a plan would submit a large share of the catalog again, and why."""

from __future__ import annotations

from typing import Final

from airflow_provider_bgrep.catalog.model.states import RowState
from airflow_provider_bgrep.catalog.plan.decision import in_edition
from airflow_provider_bgrep.catalog.plan.diff import Join
from airflow_provider_bgrep.catalog.state.database import quoted
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


def rebuy_reason(join: Join, dag_id: str, group_id: str) -> str:
    """Return why a plan needs approval, if it submits more than ``max_rebuy_share`` of the rows again.

    A row is submitted again if something about it has changed, and also if its name has changed: then the
    image of a new row is that of a billed row that has left the catalog. That row may be published, or
    retired since, or never have passed the checks. A row that is submitted again because it failed does not
    count. Neither does one without a billable submit in this ``edition``: an edition is new for each row
    until the row is billable in it, in whichever run.

    With ``on_removed="keep"``, a published row that another task group has submitted may be in that group's
    own catalog. Only a row with its image and its prompt counts then, which asks for what is billed:
    another prompt is that of another catalog with the same photos.

    :param join: with the table ``decided``, and with all purchases in ``entries``.
    :param dag_id: the DAG of the plan.
    :param group_id: its task group.
    :return: ``""`` if it does not.
    """
    most, rows = join.options.max_rebuy_share, join.rows.count
    submitted = f"decision = 'submit' AND state NOT IN {_NOT_SUBMITTED}"
    # Most runs submit few rows, and what follows reads all purchases.
    (count,) = join.one(f"SELECT count(*) FROM decided WHERE {submitted}")
    if not _is_large(count, most, rows):
        return ""
    own = in_edition("e", join.recipe.edition)
    # Hashes: the names of unchanged rows are not stored.
    is_of_others = f"e.dag_id <> {quoted(dag_id)} OR e.group_id <> {quoted(group_id)}"
    join.db.execute(
        "CREATE OR REPLACE TEMP TABLE absent AS SELECT DISTINCT e.image, e.positive_prompt, "
        f"{join.options.on_removed == 'keep'} AND ({is_of_others}) AND e.name IN (SELECT name FROM live) "
        "AS may_be_elsewhere FROM entries e ANTI JOIN cat ON cat.name_hash = hash(e.name) "
        f"WHERE e.image <> '' AND {own} AND e.outcome <> '{Outcome.REFUSED.value}'"
    )
    found = join.db.execute(
        "SELECT why, count(*) AS many FROM (SELECT CASE WHEN is_billable THEN changed WHEN NOT is_new THEN "
        "'' WHEN image IN (SELECT image FROM absent WHERE NOT may_be_elsewhere) "
        "THEN 'name (its image is that of a row that is gone)' "
        "WHEN (image, positive_prompt) IN (SELECT (image, positive_prompt) FROM absent) "
        "THEN 'name (its image and prompt are those of a row of another task group)' ELSE '' END AS why "
        f"FROM decided WHERE {submitted}) "
        "WHERE why <> '' AND NOT starts_with(why, 'tried again') GROUP BY why ORDER BY many DESC, why"
    ).fetchall()
    again = sum(many for _, many in found)
    if not _is_large(again, most, rows):
        return ""
    named = ", ".join(f"{why}: {counted(many, 'row')}" for why, many in found[:_SHOWN])
    more = f", and {len(found) - _SHOWN} other reasons" if len(found) > _SHOWN else ""
    hint = _QUERY_HINT if any("only its query" in why for why, _ in found) else ""
    return (
        f"{again} of {rows} rows ({again / rows:.0%}) would be submitted again, which is more than "
        f"max_rebuy_share ({most:.0%}). What has changed: {named}{more}.{hint}"
    )


def _is_large(count: int, most: float, rows: int) -> bool:
    """Return whether this number of rows needs approval.

    :param most: the largest share of the rows that needs none.
    """
    return count > max(_LEAST, most * rows)
