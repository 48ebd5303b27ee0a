# SPDX-License-Identifier: Apache-2.0
"""Summarizes a run: counts, images and cost for ``summary.json``, and one line for the task log."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NotRequired, TypedDict

from airflow_provider_bgrep.catalog.model.plan import NOT_OF_CATALOG
from airflow_provider_bgrep.catalog.model.states import (
    GIVEN_UP,
    NOT_REMOVED,
    OTHER_ACCOUNT,
    TO_DO,
    RowState,
    Verdict,
)
from airflow_provider_bgrep.figures import counted, money
from airflow_provider_bgrep.generation.outcomes import Outcome

VERSION: Final = 1
_MAX_REASONS: Final = 10
"""Most reasons in ``invalid_reasons``; the most frequent ones are kept."""
_WORDS_SCORE: Final = "label_words"
"""Name of the score that an image has if the words on its product were compared."""
_MAX_TEXT: Final = 300
"""Most characters of a text in the summary: a reason, an sku, a note."""
_MAX_READING: Final = 2_000
"""Most characters of a sentence about how the catalog was read: it names up to 40 columns."""


# --- the status of a row --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Status:
    """How a status is shown.

    :param tone: color of its label: ``success``, ``warning``, ``error``, ``waiting`` or ``neutral``.
    :param needs_attention: whether a person has to act on such a row.
    """

    tone: str
    needs_attention: bool = False


STATUSES: Final[dict[str, Status]] = {
    "flagged": Status("warning", True),
    "unmasked": Status("warning", True),
    "unchecked": Status("warning", True),
    "unknown_outcome": Status("error", True),
    "failed": Status("error", True),
    "refused": Status("error", True),
    "expired": Status("error", True),
    "partial": Status("warning", True),
    "lost": Status("error", True),
    "not_published": Status("error", True),
    "not_submitted": Status("error", True),
    NOT_REMOVED: Status("warning", True),
    GIVEN_UP: Status("warning", True),
    OTHER_ACCOUNT: Status("warning", True),
    "quarantined": Status("warning", True),
    "invalid": Status("error", True),
    "published": Status("success"),
    "new": Status("waiting"),
    "changed": Status("waiting"),
    "unpublished": Status("waiting"),
    "pending": Status("waiting"),
    "over_budget": Status("waiting"),
    "locked": Status("warning", True),
    "orphaned": Status("neutral"),
    "blocked": Status("neutral"),
    "removed": Status("neutral"),
    "unchanged": Status("neutral"),
}
"""Every status, in the order in which the gallery and the log name them. A status is the row's verdict if it
was checked, else the outcome of its image task, else its state in the plan. Rows that passed the checks are
``published`` or, until they are, ``unpublished``. Rows without a mask are ``unmasked`` unless they are
published. The published images of ``lost`` rows are missing, and cannot be restored. The images of
``not_published`` rows passed, and could not be copied, or passed after the publish task had ended. Of
``partial`` rows, whatever their verdict, images that the service has made could not be had in as many runs as
ask for them, and this run was the last of these: the next one does not name them. Of
``given_up`` and ``other_account`` there is a note of the plan, and no row; of ``not_removed`` too, unless the
publish task has kept what the plan was to remove.
"""


_WORDS: Final = {
    "unmasked": "not compared: no mask",
    Outcome.PARTIAL.value: "without all images",
    NOT_REMOVED: "gone and not removed",
    OTHER_ACCOUNT: "submitted with another connection",
}


def in_words(name: str) -> str:
    """Return a status or a state as it reads in a sentence: ``over_budget`` becomes ``over budget``."""
    return _WORDS.get(name, name.replace("_", " "))


def status_of(row: Mapping[str, Any]) -> str:
    """Return the status of a row, a key of :data:`STATUSES`.

    :param row: has ``state``, and may have ``outcome``, ``attempts``, ``verdict``, ``published``,
        ``not_published`` (the reason why its image could not be copied), ``is_kept`` (whether the publish
        task has not removed it, though it is gone from the catalog) and ``is_of_others`` (see
        :meth:`~.plan.Plan.is_of_others`).
    """
    state = RowState(row["state"])
    if row.get("is_kept"):
        return NOT_REMOVED
    if state not in TO_DO or row.get("is_of_others"):
        return state.value
    verdict, outcome = row.get("verdict") or "", row.get("outcome") or ""
    if lacks_images(row):
        return Outcome.PARTIAL.value
    if row.get("not_published"):
        return "not_published"
    if verdict == Verdict.PASSED.value or (verdict == Verdict.UNMASKED.value and row.get("published")):
        return "published" if row.get("published") else "unpublished"
    if verdict:
        return Verdict(verdict).value
    if outcome in (Outcome.GENERATED.value, Outcome.PARTIAL.value):
        return "unpublished"
    return Outcome(outcome).value if outcome else state.value


def lacks_images(row: Mapping[str, Any]) -> bool:
    """Return whether a run was the last to ask for images of a row that the service has made.

    What was ``partial`` before, or has no other images, is not.

    :param row: has ``state``, and may have ``outcome`` and ``attempts``: the runs that asked without success.
    """
    is_collected = row["state"] == RowState.PENDING.value
    return is_collected and row.get("outcome") == Outcome.PARTIAL.value and bool(row.get("attempts"))


def needs_attention(row: Mapping[str, Any]) -> bool:
    """Return whether a person has to act on a row."""
    return STATUSES[status_of(row)].needs_attention


# --- the summary ----------------------------------------------------------------------------------


class PlanHeader(TypedDict):
    """The plan that a summary belongs to.

    ``created_at`` is ISO 8601 in UTC.
    """

    plan_id: str
    run_id: str
    dag_id: str
    catalog: str
    created_at: str


class ImageCounts(TypedDict):
    """Numbers of images.

    ``quoted`` is what the plan would submit, ``billable`` what its jobs are billed for at most.
    """

    quoted: int
    billable: int


class InvalidReason(TypedDict):
    """A reason why rows are invalid; reasons that differ only in a value are counted together.

    ``line`` and ``sku`` are those of the first such row.
    """

    column: str
    reason: str
    count: int
    line: int | None
    sku: str


class Summary(TypedDict):
    """What a run did, as ``summary.json`` holds it.

    ``rows``
        Rows in the catalog, invalid ones included.
    ``states``, ``statuses``, ``outcomes``, ``verdicts``
        Rows by state in the plan, by status, by outcome of their image task and by verdict of the checks.
        Zeros are left out.
    ``label_text``
        Rows whose products were searched for words, to compare them.
    ``needs_attention``
        Rows that a person has to act on.
    ``listed``
        Rows that the gallery may show: all but the unchanged ones.
    ``price``, ``quoted``, ``cost``
        Decimal numbers as text: the price of an image, the cost of the quoted images and of the billable
        ones. ``''`` where ``price_per_image`` is not set.
    ``notes``, ``reading``
        Warnings about the whole run, and what the catalog was taken for, in sentences.
    ``backlog``
        Images over budget, which later runs submit.

    The report task adds the keys that are not required: the gallery's path, whether it was a dry run, why the
    plan was canceled (``''`` if it was not), the shards that did not finish, whether the publish task has
    ended, and the line for the log.
    """

    version: int
    plan: PlanHeader
    rows: int
    states: dict[str, int]
    statuses: dict[str, int]
    outcomes: dict[str, int]
    verdicts: dict[str, int]
    label_text: int
    needs_attention: int
    listed: int
    images: ImageCounts
    price: str
    quoted: str
    cost: str
    currency: str
    backlog: int
    invalid_reasons: list[InvalidReason]
    notes: list[str]
    reading: list[str]
    gallery: NotRequired[str]
    dry_run: NotRequired[bool]
    cancelled: NotRequired[str]
    unfinished: NotRequired[list[str]]
    is_published: NotRequired[bool]
    line: NotRequired[str]


def summary_of(
    *,
    plan: Mapping[str, Any],
    rows: Iterable[Mapping[str, Any]],
    problems: Iterable[Mapping[str, Any]],
    currency: str,
) -> Summary:
    """Summarize a run in memory that does not grow with the number of rows.

    :param plan: as :meth:`~.plan.Plan.to_dict` returns it.
    :param rows: every row but the unchanged ones, which the plan counts. Each has ``state``, and may have
        ``outcome``, ``verdict``, ``published``, ``billable`` (images) and ``cost`` (decimal text).
    :param problems: the invalid rows, each with ``reason``, and possibly ``column``, ``line`` and ``sku``.
    :param currency: the currency of ``cost``.
    """
    counts = {name: Counter[str]() for name in ("statuses", "outcomes", "verdicts")}
    billable, cost, listed, read = 0, Decimal(0), 0, 0
    for row in rows:
        listed += 1
        counts["statuses"][status_of(row)] += 1
        for name, column in (("outcomes", "outcome"), ("verdicts", "verdict")):
            if row.get(column):
                counts[name][row[column]] += 1
        read += _WORDS_SCORE in str(row.get("scores") or "")
        billable += row.get("billable") or 0
        cost += Decimal(row.get("cost") or 0)
    states = {state: count for state, count in plan["counts"].items() if count}
    statuses = counts["statuses"] + Counter(unchanged=states.get(RowState.UNCHANGED.value, 0))
    statuses += Counter(plan.get("attention") or {})
    quote = plan["quote"]
    price = quote["price"]
    return {
        "version": VERSION,
        "plan": {
            "plan_id": plan["plan_id"],
            "run_id": plan["run_id"],
            "dag_id": plan["dag_id"],
            "catalog": _text(plan["catalog"]),
            "created_at": plan["created_at"],
        },
        "rows": sum(count for state, count in states.items() if state not in NOT_OF_CATALOG),
        "states": states,
        "statuses": {name: statuses[name] for name in STATUSES if statuses[name]},
        "outcomes": dict(counts["outcomes"]),
        "verdicts": dict(counts["verdicts"]),
        "label_text": read,
        "needs_attention": sum(count for name, count in statuses.items() if STATUSES[name].needs_attention),
        "listed": listed,
        "images": {"quoted": quote["images"], "billable": billable},
        "price": "" if price is None else str(price),
        "quoted": "" if price is None else f"{quote['images'] * Decimal(price):f}",
        "cost": "" if price is None else f"{cost:f}",
        "currency": _text(currency),
        "backlog": quote["backlog"],
        "invalid_reasons": _invalid_reasons(problems),
        "notes": [_text(note) for note in (plan.get("concern"), *plan["notes"]) if note],
        "reading": [_text(sentence, _MAX_READING) for sentence in plan.get("reading") or ()],
    }


def add_publish_result(summary: Summary, result: Mapping[str, Any]) -> None:
    """Add to a summary which published files the publish task found lost, and which it restored.

    Rows that it did not remove are counted already, and it is noted why.

    :param result: as :meth:`~.plan_store.PlanStore.publish_result` returns it.
    """
    lost, healed = result.get("lost") or [], result.get("healed") or []
    if lost:
        summary["statuses"]["lost"] = len(lost)
        summary["needs_attention"] += len(lost)
    summary["notes"] += [
        _text(f"The published image of {name} is lost: {reason}. Restore it, or change the row.")
        for name, reason in lost[:_MAX_REASONS]
    ]
    if kept := result.get("not_removed"):
        rows = f"{counted(len(kept), 'row')} that {'is' if len(kept) == 1 else 'are'} gone from the catalog"
        why = result["why_not_removed"].removesuffix(".")
        summary["notes"].append(_text(f"Not removed: {rows}. The reason: {why}."))
    if healed:
        summary["notes"].append(
            _text(f"Restored {counted(len(healed), 'published image')}: {', '.join(healed[:_MAX_REASONS])}")
        )


_VALUES: Final = re.compile(r"'[^']*'|\"[^\"]*\"|\d[\d.,]*")


def _invalid_reasons(problems: Iterable[Mapping[str, Any]]) -> list[InvalidReason]:
    """Count the reasons why rows are invalid, most frequent first, regardless of the values in them."""
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], Mapping[str, Any]] = {}
    for problem in problems:
        key = _text(problem.get("column")), _VALUES.sub("…", _text(problem["reason"]))
        counts[key] += 1
        first.setdefault(key, problem)
    return [
        {
            "column": key[0],
            "reason": _text(first[key]["reason"]),
            "count": count,
            "line": first[key].get("line"),
            "sku": _text(first[key].get("sku")),
        }
        for key, count in counts.most_common(_MAX_REASONS)
    ]


def _text(value: Any, longest: int = _MAX_TEXT) -> str:
    """Return a value as a short text that can be encoded: a catalog may hold unpaired surrogates."""
    text = str(value or "").encode("utf-8", "replace").decode()
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


# --- in words -------------------------------------------------------------------------------------


def line_of(summary: Summary) -> str:
    """Return the summary as one line for the log: what needs attention, then what the run did."""
    headline, kinds = headline_of(summary), kinds_of(summary)
    if kinds:
        headline = f"{headline.removesuffix('.')}: {kinds}."
    return f"{headline} {rest_of(summary)}"


def headline_of(summary: Summary) -> str:
    """Return what needs attention as one or two sentences."""
    unfinished = len(summary.get("unfinished") or ())
    rows = summary["needs_attention"]
    sentences = [f"{counted(unfinished, 'shard')} did not finish."] if unfinished else []
    if not summary.get("is_published", True):
        sentences.append("The publish task did not finish.")
    if rows:
        sentences.append(f"{counted(rows, 'row')} {'needs' if rows == 1 else 'need'} attention.")
    return " ".join(sentences) or "No rows need attention."


def label_text_of(summary: Summary) -> str:
    """Return whether the words on products were compared, as a sentence; ``""`` if nothing was checked."""
    if not summary["verdicts"]:
        return ""
    if rows := summary["label_text"]:
        return f"The words on products were compared in {counted(rows, 'row')}."
    return "The words on products were not compared: that needs the extra ocr, and label_text above 0."


def failures_of(summary: Summary, fail_on_attention: float | None = None) -> list[str]:
    """Return why the report task fails, one sentence each; empty if it succeeds.

    :param fail_on_attention: the number of rows, or the share below 1, from which it fails.
    """
    failures = list(summary.get("unfinished") or ())
    if failures:
        failures.append("the next run takes what is left")
    if not summary.get("is_published", True):
        failures.append(
            "the publish task did not finish: see its log, correct the cause, then clear publish and report"
        )
    rows, limit = summary["needs_attention"], fail_on_attention
    if limit is not None and summary.get("cancelled") and not summary.get("dry_run"):
        failures.append(f"the run was canceled: {summary['cancelled']}")
    if limit is not None and rows and rows >= (limit if limit >= 1 else limit * summary["rows"]):
        failures.append(
            f"{counted(rows, 'row')} of {summary['rows']:,} {'needs' if rows == 1 else 'need'} attention "
            f"({kinds_of(summary)}), fail_on_attention is {limit:g}"
        )
    return failures


def kinds_of(summary: Summary) -> str:
    """Return the statuses of the rows that need attention, separated by commas; ``''`` if there are none."""
    found = summary["statuses"]
    names = [name for name, status in STATUSES.items() if status.needs_attention and found.get(name)]
    if len(names) == 1 and summary["needs_attention"] == 1:
        return in_words(names[0])
    return ", ".join(_count_of(summary, name) for name in names)


def rest_of(summary: Summary) -> str:
    """Return what the run did, or in a dry run what it would do, as one sentence."""
    rows = counted(summary["rows"], "row")
    others = [
        _count_of(summary, name) + (_unmasked(summary) if name == "published" else "")
        for name, status in STATUSES.items()
        if not status.needs_attention and summary["statuses"].get(name)
    ]
    if summary.get("dry_run"):
        images = (
            f"{counted(summary['images']['quoted'], 'image')} to submit{_price(summary, summary['quoted'])}"
        )
        start = f"Dry run of {rows}: {images}"
    elif cancelled := summary.get("cancelled"):
        start = f"Canceled the refresh of {rows} ({cancelled}): {_billable(summary)}"
    else:
        start = f"Refreshed {rows}: {_billable(summary)}"
    return ", ".join([start, *others]) + "."


def _unmasked(summary: Summary) -> str:
    """Return how many of the published rows were not compared, in words."""
    count = summary["verdicts"].get("unmasked", 0) - summary["statuses"].get("unmasked", 0)
    return f" ({count:,} not compared: no mask)" if count > 0 else ""


_MAYBE_BILLED: Final = (Outcome.FAILED.value, Outcome.UNKNOWN.value)


def _billable(summary: Summary) -> str:
    images = summary["images"]["billable"]
    if not images:
        return "no billable images"
    # The service does not say whether it bills for these outcomes.
    at_most = "at most " if any(summary["outcomes"].get(name) for name in _MAYBE_BILLED) else ""
    return f"{at_most}{counted(images, 'billable image')}{_price(summary, summary['cost'])}"


def _count_of(summary: Summary, name: str) -> str:
    return f"{summary['statuses'][name]:,} {in_words(name)}"


def _price(summary: Summary, amount: str) -> str:
    return f" ({money(amount, summary['currency'])})" if amount else ""
