# SPDX-License-Identifier: Apache-2.0
"""Benchmark: the share of an allowed rate that a runner uses for 1,000 images without knowing the rate."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bgrep_demo.emulator import start_emulator
from bgrep_demo.services import Services
from polls import QuietMachine, environment
from sources import draw, image_tasks, source_images
from tables import Goal, Spread, Table

from airflow_provider_bgrep.emulator.control import EmulatorClient

HERE = Path(__file__).parent
TITLES = {"ours": "ours, engine without Airflow", "limit": "the limit: a loop that knows the rate"}
RATES = (5.0, 20.0)
IMAGES, DISTINCT, SECONDS = 1000, 100, 20.0
MIN_SHARE = 0.95


@dataclass(frozen=True)
class Turn:
    """The turn of a subject.

    :param rate: requests per second that the service allows, and the burst.
    :param submitting: seconds from the first accepted submit to the last.
    :param share: requests that passed, as a share of those that the service would have let through by then.
    :param refused: requests refused by then.
    :param whole: seconds until the last image was saved; the limit saves none.
    :param saved: images on disk.
    :param billed: images billed.
    """

    subject: str
    rate: float
    submitting: float
    share: float
    refused: int
    whole: float
    saved: int
    billed: int


class CounterLog(threading.Thread):
    """Records the emulator's clock and counters ten times a second."""

    def __init__(self, emulator: EmulatorClient) -> None:
        super().__init__(daemon=True)
        self._emulator = emulator
        self._stopping = threading.Event()
        self.seen: list[tuple[float, int, int]] = []
        """Times, queries answered, requests refused."""

    def run(self) -> None:
        """Record until stopped."""
        while not self._stopping.wait(0.1):
            now, counters = self._emulator.now, self._emulator.counters
            self.seen.append((now, counters.queries, counters.refused))

    def stop(self) -> None:
        """Stop recording."""
        self._stopping.set()
        self.join()

    def at(self, time_: float) -> tuple[int, int]:
        """Return the counters at a time, to within a tenth of a second."""
        later = (one for one in self.seen if one[0] >= time_)
        found = next(later, self.seen[-1])
        return found[1], found[2]


def take_turn(subject: str, rate: float, emulator: EmulatorClient, tasks: list[Any], home: Path) -> Turn:
    """Let a subject submit all image tasks in a new process."""
    emulator.reset()
    emulator.configure(rate=rate)
    home.mkdir(parents=True)
    plan = home / "plan.json"
    parts = {"subject": subject, "rate": rate, "tasks": tasks, "folder": str(home / "images")}
    parts |= {"port": urlsplit(emulator.url).port, "app_code": emulator.app_code}
    plan.write_text(json.dumps(parts))
    counting = CounterLog(emulator)
    counting.start()
    try:
        done = subprocess.run(
            [sys.executable, HERE / "submitter.py", plan],
            stdout=subprocess.PIPE,
            check=True,
            env=environment(str(home)),
        )
    finally:
        counting.stop()
    whole = json.loads(done.stdout.splitlines()[-1])["seconds"]
    created = sorted(job["created"] for job in emulator.jobs)
    submitting = created[-1] - created[0]
    queries, refused = counting.at(created[-1])
    bill = emulator.counters
    return Turn(
        subject=subject,
        rate=rate,
        submitting=submitting,
        share=(len(created) + queries) / (rate + rate * submitting),
        refused=refused,
        whole=whole,
        saved=sum(1 for _ in (home / "images").glob("*.png")),
        billed=bill.images,
    )


def measure(
    repetitions: int,
    home: str,
    say: Callable[[str], None],
    only: set[str] | None = None,
    patience: float = 60.0,
) -> tuple[Table, list[dict[str, Any]]]:
    """Let ours and the limit take turns at each rate.

    :param repetitions: rounds.
    :param home: a directory for Airflow and the images.
    :param say: shows progress.
    :param only: ignored, because there are no peers.
    :param patience: seconds to wait in total for other programs to become idle; then it measures anyway.
    :return: the table, and every turn.
    """
    turns: list[Turn] = []
    quiet, folder = QuietMachine(patience), Path(home) / "throughput"
    timing = ("--timing", "lifelike", "--seconds", str(SECONDS), "0", "--no-fetch")
    with source_images() as sources, Services() as services:
        emulator = start_emulator(services, folder / "emulator.log", *timing)
        tasks = image_tasks(sources, IMAGES, DISTINCT)
        draw(emulator, tasks[:DISTINCT])
        for number in range(repetitions):
            for rate in RATES:
                for name in TITLES:
                    quiet.wait()
                    seen = take_turn(name, rate, emulator, tasks, folder / f"{number}-{rate:g}-{name}")
                    turns.append(seen)
                    say(
                        f"round {number + 1}/{repetitions}, {rate:g} requests a second: {name:6} used "
                        f"{100 * seen.share:.1f} % in {seen.submitting:.1f} s, {seen.refused} refused, "
                        f"all in all {seen.whole:.1f} s, {seen.saved} saved"
                    )
    return table(turns), [asdict(turn) for turn in turns]


def table(turns: list[Turn]) -> Table:
    """Return the table."""
    out = Table(
        f"{IMAGES:,} images, {IMAGES // 10} submits, by requests per second that the service allows",
        [
            "median (lowest-highest round)",
            "allowed",
            "% used",
            "submitting s",
            "refused",
            "whole s",
            "saved",
            "billed",
        ],
    )
    for rate in RATES:
        for name, title in TITLES.items():
            seen = [turn for turn in turns if (turn.subject, turn.rate) == (name, rate)]
            share = Spread.of([100 * turn.share for turn in seen])
            is_ours = name == "ours"
            out.rows.append(
                [
                    title,
                    f"{rate:g}",
                    share.shown(1),
                    Spread.of([turn.submitting for turn in seen]).shown(1),
                    Spread.of([turn.refused for turn in seen]).shown(),
                    Spread.of([turn.whole for turn in seen]).shown(1) if is_ours else "",
                    str(min(turn.saved for turn in seen)) if is_ours else "",
                    str(max(turn.billed for turn in seen)),
                ]
            )
            if is_ours:
                lost = max(IMAGES - turn.saved for turn in seen)
                unused = 100 - share.median
                out.goals += [
                    Goal(f"{rate:g} requests a second: % not used", 100 * (1 - MIN_SHARE), unused, 1),
                    Goal(f"{rate:g} requests a second: images lost", 0, lost, 0),
                ]
    out.notes.append(
        "Used: requests that the service let through from the first accepted submit to the last, over what "
        "it would have let through in that time, with the burst of the first second. Ours does "
        f"not know the rate. Image tasks take {SECONDS:g} s; whole is until the last image was saved."
    )
    return out
