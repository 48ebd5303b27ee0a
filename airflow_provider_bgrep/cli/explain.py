# SPDX-License-Identifier: Apache-2.0
"""Explains a row: why the last plans did or did not submit it, its submits, its files, what to do."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.cli.arguments import add_destination, add_json, existing_paths_of
from airflow_provider_bgrep.cli.command import FREE, Command, ExitCode
from airflow_provider_bgrep.cli.output import Output
from airflow_provider_bgrep.figures import counted

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.state.marks import Mark
    from airflow_provider_bgrep.catalog.state.row_history import RowHistory, RowInPlan

_PLANS: Final = 3

_DESCRIPTION: Final = """\
Explain a product of a catalog: what the last plans decided about each of its rows and why, every submit with
its outcome, verdict and scores, the published file and its older versions, and what you can do.

SKU is the sku, for all of its views, or the name of one row: sku/view. The ledger, the plans and the manifest
are read. Nothing is written or repaired.

Exit code 1: no plan, submit or published file is known of this SKU.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("sku", metavar="SKU", help="a sku, or a row's name: sku/view")
    add_destination(parser)
    parser.add_argument(
        "--plans", type=int, default=_PLANS, metavar="N", help="newest plans to read (default: %(default)s)"
    )
    add_json(parser)


def run(given: argparse.Namespace, out: Output) -> ExitCode:
    """Print what is known of a product."""
    paths = existing_paths_of(given)
    from airflow_provider_bgrep.catalog.errors import state_errors
    from airflow_provider_bgrep.catalog.mark.decisions import meanings_of
    from airflow_provider_bgrep.catalog.state.row_history import history_of

    with state_errors():
        history = history_of(paths, meanings_of(given.sku), max(1, given.plans))
    rows = [_row(name, history) for name in history.names]
    if given.json:
        out.json({"sku": given.sku, "rows": rows})
    elif not rows:
        out.line(f"No plan, submit or published file is known of {given.sku}.")
    else:
        for row in rows:
            _print(row, out)
    return ExitCode.OK if rows else ExitCode.PROBLEMS


def _row(name: str, history: RowHistory) -> dict[str, Any]:
    from airflow_provider_bgrep.catalog.state.row_history import facts_of, images_of

    plans = [one for one in history.plans if one.name == name]
    purchases = [one for one in history.purchases if one["name"] == name]
    published = [one for one in history.published if one["name"] == name]
    return {
        "name": name,
        "plans": [{**asdict(one), "meaning": _meaning(one)} for one in plans],
        "submits": [{**facts_of(one), "files": images_of(one)} for one in purchases],
        "published": [_published(one) for one in published],
        "decisions": [_decision(one) for one in history.marks if _is_about(one, name)],
        "advice": _advice(plans, purchases),
    }


def _meaning(row: RowInPlan) -> str:
    from airflow_provider_bgrep.catalog.model.states import ROW_MEANINGS, RowState
    from airflow_provider_bgrep.catalog.state.row_history import NOT_LISTED

    return "" if row.state == NOT_LISTED else ROW_MEANINGS[RowState(row.state)][0]


def _published(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("status", "path", "sha256", "published_at", "retired_at", "since", "plan_id")
    versions = [{name: one[name] for name in ("path", "published_at")} for one in row["versions"] or ()]
    return {**{name: row[name] for name in names if row[name] != ""}, "versions": versions}


def _is_about(mark: Mark, name: str) -> bool:
    """Whether a mark is that of a row. A block may be that of its product."""
    from airflow_provider_bgrep.catalog.model.columns import MAIN

    if mark.key == name:
        return True
    return mark.kind.value == "block" and (mark.key == f"{name}/{MAIN}" or name.startswith(f"{mark.key}/"))


def _decision(mark: Mark) -> dict[str, Any]:
    """What a person has decided about a row, without empty values."""
    return {name: value for name, value in asdict(mark).items() if value} | {"kind": mark.kind.value}


def _advice(plans: list[RowInPlan], purchases: list[Mapping[str, Any]]) -> list[str]:
    """What a person can do: by the newest plan's state, the last submit's outcome, and its verdict."""
    from airflow_provider_bgrep.catalog.model.states import ROW_MEANINGS, VERDICT_MEANINGS, RowState, Verdict
    from airflow_provider_bgrep.catalog.state.row_history import NOT_LISTED
    from airflow_provider_bgrep.generation.outcomes import MEANINGS, Outcome

    found = []
    if plans and plans[0].state != NOT_LISTED:
        found.append(ROW_MEANINGS[RowState(plans[0].state)][1])
    is_settled = plans and plans[0].state in (RowState.UNCHANGED.value, RowState.REMOVED.value)
    if purchases and not is_settled:
        last = purchases[-1]
        found.append(MEANINGS[Outcome(last["outcome"])][1])
        if last["verdict"]:
            found.append(VERDICT_MEANINGS[Verdict(last["verdict"])][1])
    return list(dict.fromkeys(filter(None, found)))


def _print(row: Mapping[str, Any], out: Output) -> None:
    out.line(row["name"])
    out.line("  plans, newest first:")
    for one in row["plans"]:
        kind = "dry run" if one["is_dry_run"] else one["run_id"]
        where = f", line {one['line']}" if one["line"] else ""
        out.line(f"    {one['created_at']}  {kind}: {one['state']}{where}")
        reason = f"Reason: {one['reason']}" if one["reason"] and one["meaning"] else one["reason"]
        for text in filter(None, (one["meaning"], reason, _submitted(one))):
            out.line(f"      {text}")
    out.line("  submits, oldest first:" if row["submits"] else "  never submitted")
    for one in row["submits"]:
        _print_submit(one, out)
    out.line("  published:" if row["published"] else "  not published")
    for one in row["published"]:
        out.line(f"    {one['published_at']}  {one['status']}: {one['path']}")
        for version in one["versions"]:
            out.line(f"    {version['published_at']}  older version: {version['path']}")
    for one in row["decisions"]:
        generation = f" {one['generation']}" if "generation" in one else ""
        who = f" by {one['by']}" if "by" in one else ""
        why = f": {one['reason']}" if "reason" in one else ""
        out.line(f"  {one['kind']}{generation}, asked for{who} at {one['at']}{why}")
    for text in row["advice"]:
        out.line(f"  what to do: {text}")
    out.line()


def _print_submit(one: Mapping[str, Any], out: Output) -> None:
    verdict = f", {one['verdict']}" if "verdict" in one else ""
    images = counted(one.get("images", 0), "billable image")
    out.line(f"    {one.get('submitted_at', '')}  {one['outcome']}{verdict}, {images}")
    for name in ("reason", "code", "result_key", "request_id", "run_id"):
        if name in one:
            out.line(f"      {name}: {one[name]}")
    for flag in one.get("flags", ()):
        out.line(f"      flag: {flag}")
    for file in one["files"]:
        scores = ", ".join(f"{name} {score}" for name, score in file["scores"].items())
        kind = "chosen" if file["is_chosen"] else "image"
        out.line(f"      {kind}: {file['path']}{f' ({scores})' if scores else ''}")


def _submitted(one: Mapping[str, Any]) -> str:
    if one["is_submitted"]:
        return "This plan submitted it."
    return f"Not submitted: {one['why_not']}" if one["why_not"] else ""


COMMAND: Final = Command(
    name="explain",
    help="explain why a row was submitted or not, and what became of it",
    description=_DESCRIPTION,
    cost=FREE,
    examples=("explain MUG-1 /data/images", "explain MUG-1/side s3://shop/images --conn-id my_s3 --json"),
    add_arguments=add_arguments,
    run=run,
)
