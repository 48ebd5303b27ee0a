# SPDX-License-Identifier: Apache-2.0
"""Any history of runs, compared with the emulator's bill and with the files that consumers read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
from bgrep_harness.histories import SKUS, Step, World
from bgrep_harness.images import draw_images, served
from hypothesis import HealthCheck, event, given, note, seed, settings
from hypothesis import strategies as st

from airflow_provider_bgrep.client import without_waiting
from airflow_provider_bgrep.testing import Emulator

COLORS = {"a": (180, 60, 40), "b": (40, 120, 60), "c": (60, 60, 170)}
"""The color of each product: its images differ."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the server of the source images."""
    folder = tmp_path_factory.mktemp("site")
    for sku, (red, green, blue) in COLORS.items():
        for version in (0, 1):
            draw_images(folder, product=(red, green, blue + 40 * version))
            (folder / "product.png").rename(folder / f"{sku}-{version}.png")
    with served(folder) as url:
        yield url


@pytest.fixture(scope="module")
def service() -> Iterator[Emulator]:
    """The emulator, which histories reset."""
    with Emulator(backgrounds="plain") as emulator, pytest.MonkeyPatch.context() as patch, without_waiting():
        patch.setenv("AIRFLOW_CONN_BGREP_DEFAULT", emulator.connection_json)
        yield emulator


# --- what may happen ------------------------------------------------------------------------------

_places = st.integers(0, 3)
_shards = st.integers(0, 2)
_crashes = st.one_of(st.just(0), st.integers(1, 60))
_clocks = st.sampled_from([0.0, 0.0, 0.0, 5.0, -5.0, 30.0, -30.0, 72.0])

_SUBMIT = [
    ("reset", "submit", 1, (("accepted", True),)),
    ("reset", "submit", 1, ()),
    ("code", "submit", 1, (("code", "23500005"),)),
    ("code", "submit", 1, (("code", "23500006"),)),
    ("code", "submit", 3, (("code", "23500001"),)),
    ("throttle", "submit", 2, ()),
    ("gateway_timeout", "submit", 1, ()),
    ("fail_task", "submit", 1, ()),
    ("late", "submit", 1, (("seconds", 500_000.0),)),
    ("late", "submit", 2, (("seconds", 500_000.0),)),
    ("partial", "submit", 1, ()),
    ("order", "submit", 1, ()),
    ("order", "submit", 1, (("order", (1, 2, 0)),)),
    ("fail_task", "submit", 1, (("index", 1),)),
    ("echo", "submit", 1, (("form", "text"),)),
    ("echo", "submit", 1, (("form", "float32"),)),
]
_OTHERS = [
    ("code", "query", 1, (("code", "23500008"),)),
    ("reset", "query", 2, ()),
    ("expired", "result", 2, ()),
    ("status", "result", 2, (("status", 404),)),
    ("truncated", "result", 1, ()),
]

OPTIONS = st.builds(
    Step,
    st.just("option"),
    value=st.one_of(
        st.tuples(st.just("max_images_per_run"), st.sampled_from([None, 1, 2])),
        st.tuples(st.just("retry_failed"), st.sampled_from([0, 1, 3])),
        st.tuples(st.just("shard_size"), st.sampled_from([1, 2, 10])),
        st.tuples(st.just("on_unknown_outcome"), st.sampled_from(["fail", "resubmit"])),
        st.tuples(st.just("on_removed"), st.sampled_from(["retire", "delete"])),
        st.tuples(st.just("keep_plans"), st.sampled_from([1, 2, 30])),
    ),
)
FAULTS = st.builds(Step, st.just("fault"), value=st.sampled_from(_SUBMIT))
FIRST = st.one_of(OPTIONS, FAULTS, st.just(Step("run")))
"""What may come before the first plan that steps can refer to."""

STEPS = st.one_of(
    st.builds(
        Step,
        st.just("edit"),
        value=st.tuples(
            st.sampled_from(SKUS), st.sampled_from(["version", "prompt", "gone", "back"]), st.integers(0, 1)
        ),
    ),
    OPTIONS,
    st.builds(Step, st.just("fault"), value=st.sampled_from(_SUBMIT + _OTHERS)),
    FAULTS,
    st.builds(Step, st.just("finish_jobs")),
    st.builds(
        Step,
        st.sampled_from(["run", "run", "plan"]),
        shard=st.integers(0, 8),
        dies_at=_crashes,
        after=st.booleans(),
        hours=_clocks,
    ),
    st.builds(
        Step,
        st.sampled_from(["generate", "generate", "check", "publish", "report", "replan"]),
        run=_places,
        shard=_shards,
        dies_at=_crashes,
        after=st.booleans(),
        hours=_clocks,
    ),
    st.builds(Step, st.just("rest"), run=_places, hours=_clocks),
    st.builds(Step, st.just("freeze"), run=_places, shard=_shards, dies_at=st.integers(1, 20)),
    st.builds(Step, st.just("thaw")),
    st.builds(
        Step,
        st.just("damage"),
        value=st.tuples(st.integers(0, 60), st.sampled_from(["lose", "cut", "copy", "stray"])),
    ),
)

BLOCKS = 40 if settings.get_current_profile_name() == "thorough" else 1
"""Histories are drawn in blocks of equal size, each with a seed of its own."""


@pytest.mark.slow
@pytest.mark.timeout(1800)  # many runs: minutes beside other work
@pytest.mark.parametrize("block", range(BLOCKS))
def test_no_history_pays_twice_or_loses(
    block: int, service: Emulator, site: str, run: Any, ti: Any, request: pytest.FixtureRequest
) -> None:
    @seed(block if block else request.config.getoption("hypothesis_seed") or 0)
    @settings(deadline=None, max_examples=50 if BLOCKS > 1 else 20, suppress_health_check=list(HealthCheck))
    @given(first=st.lists(FIRST, max_size=3), steps=st.lists(STEPS, min_size=2, max_size=12))
    def play(first: list[Step], steps: list[Step]) -> None:
        steps = [*first, Step("plan"), *steps]
        note(json.dumps([asdict(step) for step in steps]))
        for step in steps:
            event(step.kind)
        World(service, site, run, type(ti)).play(steps)

    play()
