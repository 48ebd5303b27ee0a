# SPDX-License-Identifier: Apache-2.0
"""Any catalog over any runs, killed at any point: compared with a plain account of what was billed."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from bgrep_harness.runs import DAY, Destination, Execution, Run
from bgrep_harness.stores import folder
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.journal.records import State

SKUS = "abcde"
MOST_TRIES, PATIENCE = 2, 6

Key = tuple[Any, ...]


# --- what may happen ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A row of the catalog."""

    sku: str
    prompt: str
    color: str
    category: str
    image: str

    def cells(self) -> dict[str, str]:
        return {
            "sku": self.sku,
            "image": self.image,
            "positive_prompt": self.prompt,
            "color": self.color,
            "category": self.category,
        }


@dataclass(frozen=True)
class Scenario:
    """What happens in a run.

    :param lines: the catalog.
    :param default: everybody's prompt.
    :param negative: what a category leaves out, if anything.
    :param edition: of the catalog.
    :param budget: images.
    :param outcomes: what becomes of image tasks, by sku.
    :param verdicts: of their images.
    :param ends: how it ends.
    """

    lines: Sequence[Line]
    default: str
    negative: str | None
    edition: str
    budget: int | None
    outcomes: Mapping[str, str]
    verdicts: Mapping[str, str]
    ends: str


LINES = st.lists(
    st.builds(
        Line,
        st.sampled_from(SKUS),
        st.sampled_from(["plain", "a {{ color }} cup", ""]),
        st.sampled_from(["red", "blue"]),
        st.sampled_from(["", "cups"]),
        st.sampled_from(["https://shop.example/1.jpg", "https://shop.example/2.jpg", "none"]),
    ),
    min_size=1,
    max_size=6,
)
SCENARIOS = st.builds(
    Scenario,
    LINES,
    st.sampled_from(["default", "default in {{ color }}"]),
    st.sampled_from([None, "people"]),
    st.sampled_from(["", "", "spring"]),
    st.sampled_from([None, None, 2]),
    st.dictionaries(
        st.sampled_from(SKUS),
        st.sampled_from(["partial", "failed", "expired", "pending", "pending", "refused", "lost", "never"]),
    ),
    st.dictionaries(st.sampled_from(SKUS), st.sampled_from(["flagged", "unchecked"]), max_size=2),
    st.sampled_from(
        ["well", "well", "in the shards", "before the manifests", "unpublished", "unchecked", "cleared"]
    ),
)


# --- a plain account -----------------------------------------------------------------------------------


@dataclass
class Facts:
    """The outcome of the last submit for a row's request_hash."""

    outcome: str
    attempts: int = 0
    verdict: str = ""


def is_waiting(facts: Facts) -> bool:
    """Whether a job is asked for once more."""
    return facts.outcome in ("pending", "expired") and facts.attempts < PATIENCE


@dataclass
class Account:
    """What is known of a destination, in plain dictionaries.

    :param facts: by row and what it asked for.
    :param live: what is published.
    :param contents: the plan's own word for what was asked for.
    :param billed: the bill.
    """

    facts: dict[tuple[str, Key], Facts] = field(default_factory=dict)
    live: dict[str, Key] = field(default_factory=dict)
    contents: dict[Key, str] = field(default_factory=dict)
    billed: Counter[tuple[str, str]] = field(default_factory=Counter)

    def wants(self, scenario: Scenario) -> dict[str, Key | None]:
        """What each row asks for, in the catalog's order; ``None`` of a bad one."""
        found: dict[str, Key | None] = {}
        for line in scenario.lines:
            if line.sku not in found:
                prompt = (line.prompt or scenario.default).replace("{{ color }}", line.color)
                negative = scenario.negative if line.category == "cups" else None
                is_bad = line.image == "none"
                found[line.sku] = (
                    None if is_bad else (line.sku, line.image, prompt, negative, scenario.edition)
                )
        return found

    def state_of(self, name: str, key: Key) -> str:
        """What a row is to be, budget aside."""
        facts = self.facts.get((name, key))
        if facts is None or (facts.outcome == "failed" and self.tries(name, key) < MOST_TRIES):
            return "changed" if any(other == name for other, _ in self.facts) else "new"
        if facts.outcome in ("generated", "partial"):
            if facts.verdict == "passed" and self.live.get(name) == key:
                return "unchanged"
            return "flagged" if facts.verdict == "flagged" else "unpublished"
        return "pending" if is_waiting(facts) else "quarantined"

    def tries(self, name: str, key: Key) -> int:
        """How often a row was submitted for a request."""
        return self.billed[name, self.contents[key]]

    def orphans(self, scenario: Scenario) -> int:
        """How many jobs are collected that no row asks for any more."""
        wants = self.wants(scenario)
        return sum(is_waiting(facts) and wants.get(name) != key for (name, key), facts in self.facts.items())

    def states(self, scenario: Scenario, spent: int) -> dict[str, str]:
        """The state of each row that has one, bad ones aside."""
        wants = self.wants(scenario)
        states = {name: self.state_of(name, key) for name, key in wants.items() if key is not None}
        left = 10**6 if scenario.budget is None else max(0, scenario.budget - spent)
        for submit in ("new", "changed"):
            for name in [name for name, state in states.items() if state == submit]:
                if left <= 0:
                    states[name] = "over_budget"
                left -= 1
        states.update(dict.fromkeys(self.live.keys() - wants.keys(), "removed"))
        return states

    def take(
        self, executions: Sequence[Execution], wants: Mapping[str, Key | None], before: Mapping[Any, Facts]
    ) -> None:
        """Take in what executions have come to, as far as they have lived to tell.

        :param before: the facts when the plan was made.
        """
        for execution in executions:
            work_items = execution.run.store.work_items(execution.shard)
            listed = [one for one in work_items if one["state"] != "unpublished"]
            keys = {request_hash: key for key, request_hash in self.contents.items()}
            for item, work_item in zip(execution.board.listed, listed, strict=True):
                key = keys[work_item["request_hash"]]
                assert work_item["state"] == "orphaned" or key == wants[item.id]
                outcome = item.outcome.value
                if not execution.writes_manifest:
                    outcome = self._by_journal(execution, item.id)
                if outcome == Outcome.NOT_SUBMITTED.value:
                    continue
                known = before.get((item.id, key))
                asked = known.attempts if known is not None and is_waiting(known) else 0
                self.facts[item.id, key] = Facts(outcome, asked + 1)

    def _by_journal(self, execution: Execution, name: str) -> str:
        own = [
            one for one in execution.journal.records[len(execution.journal.previous_records) :] if one.items
        ]
        states = [one.state for one in own for asked in one.items if asked.id == name]
        outcomes = {State.ACCEPTED: "pending", State.UNKNOWN: "unknown_outcome", State.REFUSED: "refused"}
        return outcomes[states[-1]] if states else Outcome.NOT_SUBMITTED.value


# --- the runs ---------------------------------------------------------------------------------------


class World:
    """The destination, and the plain account of it."""

    def __init__(self) -> None:
        self.destination = Destination(
            CatalogPaths(folder({})), {"shard_size": 2, "max_removed_share": 1, "max_attempts": MOST_TRIES}
        )
        self.account = Account(billed=self.destination.billed)

    def refresh(self, scenario: Scenario) -> None:
        spent = 0
        if scenario.ends == "cleared":
            # The task that plans is cleared when one shard of the run has worked.
            run = self.plan(scenario, 0, now=self.destination.started + (self.destination.runs + 1) * DAY)
            billed = self.destination.billed.total()
            self.work(run, scenario, shards=list(range(run.plan.shards))[:1])
            spent = self.destination.billed.total() - billed
            run = self.plan(scenario, spent, run_id=run.plan.run_id, now=run.now + 60)
        else:
            run = self.plan(scenario, 0)
        shards = list(range(run.plan.shards))
        if scenario.ends == "in the shards":
            self.work(run, scenario, shards=shards[::2])
            return
        before = self.work(run, scenario, writes_manifest=scenario.ends != "before the manifests")
        if scenario.ends == "before the manifests":
            return
        run.check(scenario.verdicts)
        checked = {
            one["name"]
            for one in run.work_items
            if one["state"] != "orphaned" and self.has_images(one["name"], scenario)
        }
        if scenario.ends == "unchecked":
            # A shard's task is cleared alone: it goes on, and is not checked again.
            again = {sku: "generated" for sku in SKUS if scenario.outcomes.get(sku) in ("never", "failed")}
            self.work(
                run, scenario, {**scenario.outcomes, **again}, before=before, try_number=2, retry_failed=1
            )
        self.judge(scenario, checked)
        if scenario.ends != "unpublished":
            self.publish(run, scenario, checked)

    def plan(self, scenario: Scenario, spent: int, **when: Any) -> Run:
        """Plan, and hold the plan against the account."""
        run = self.destination.plan(
            [line.cells() for line in scenario.lines],
            defaults={"positive_prompt": scenario.default},
            categories={"cups": {"negative_prompt": scenario.negative}},
            edition=scenario.edition,
            max_images_per_run=scenario.budget,
            **when,
        )
        wanted = self.account.states(scenario, spent)
        assert run.states == {name: state for name, state in wanted.items() if state != "unchanged"}
        bad = len(scenario.lines) - sum(state != "removed" for state in wanted.values())
        orphaned = self.account.orphans(scenario)
        assert run.counts == Counter(wanted.values()) + Counter(invalid=bad, orphaned=orphaned)
        assert run.plan.rows == len(scenario.lines)
        for one in run.work_items:
            if one["state"] == "orphaned":
                continue
            # What was asked for and what the plan calls it are one to one.
            key = self.account.wants(scenario)[one["name"]]
            assert key is not None
            assert self.account.contents.setdefault(key, one["request_hash"]) == one["request_hash"]
        assert len(set(self.account.contents.values())) == len(self.account.contents)
        return run

    def work(
        self,
        run: Run,
        scenario: Scenario,
        outcomes: Mapping[str, str] | None = None,
        before: Any = None,
        **execution: Any,
    ) -> dict[Any, Facts]:
        before = dict(self.account.facts) if before is None else before
        executions = run.work(scenario.outcomes if outcomes is None else outcomes, **execution)
        self.account.take(executions, self.account.wants(scenario), before)
        return before

    def has_images(self, name: str, scenario: Scenario) -> bool:
        facts = self.account.facts.get((name, self.account.wants(scenario)[name] or ()))
        return facts is not None and facts.outcome in ("generated", "partial")

    def judge(self, scenario: Scenario, checked: set[str]) -> None:
        for name in checked:
            key = self.account.wants(scenario)[name]
            assert key is not None
            self.account.facts[name, key].verdict = scenario.verdicts.get(name, "passed")

    def publish(self, run: Run, scenario: Scenario, checked: set[str]) -> None:
        removed = [name for name, state in run.states.items() if state == "removed"]
        run.publish()
        for name in checked:
            key = self.account.wants(scenario)[name]
            if key is not None and self.account.facts[name, key].verdict == "passed":
                self.account.live[name] = key
        for name in removed:
            del self.account.live[name]

    def check_books(self) -> None:
        """What was billed is known, and was submitted twice only where it had failed."""
        entries = self.destination.entries()
        # Of one submit there may be several entries, from one run to the next.
        submitted = {(one["nonce"], one["name"], one["request_hash"]) for one in entries if one["images"]}
        assert Counter((name, request_hash) for _, name, request_hash in submitted) == self.destination.billed
        assert max(self.destination.billed.values(), default=0) <= MOST_TRIES
        live = {name: self.account.contents[key] for name, key in self.account.live.items()}
        assert self.destination.published() == live


@pytest.fixture(autouse=True, scope="module")
def temporary_files_in_memory(tmp_path_factory):
    """DuckDB syncs every table to the disk, which no test here is about."""
    tmp_path_factory.getbasetemp()  # pytest's own stay where they are
    memory, before = "/dev/shm", tempfile.tempdir  # noqa: S108
    if os.access(memory, os.W_OK):
        tempfile.tempdir = memory
    yield
    tempfile.tempdir = before


@pytest.mark.slow
@settings(
    deadline=None,
    max_examples=300 if settings.get_current_profile_name() == "thorough" else 8,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(SCENARIOS, min_size=2, max_size=5), st.sampled_from(["", "merged", "lost"]))
def test_plans_agree_with_a_plain_account_after_any_runs(scenarios: list[Scenario], between: str):
    world = World()
    for scenario in scenarios:
        event(scenario.ends)
        world.refresh(scenario)
        if between == "merged":
            Ledger(world.destination.paths).compact()
        elif between == "lost":
            lose_metadata(world.destination)
    world.check_books()


def lose_metadata(destination: Destination) -> None:
    ledger = destination.paths.ledger
    for name in list(ledger.fs.files):
        if "/ledger/" in name and name.endswith(".json"):
            del ledger.fs.files[name]
