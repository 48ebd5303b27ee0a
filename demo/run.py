# SPDX-License-Identifier: Apache-2.0
"""The demo: a real Airflow runs ``bgrep_catalog_refresh`` on two nights against the emulator.

``make demo`` calls it; ``make demo KEEP=1`` leaves Airflow's UI up afterwards.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bgrep_demo.airflow import FINISHED, Airflow
from bgrep_demo.console import Console
from bgrep_demo.emulator import start_emulator
from bgrep_demo.services import Services
from bgrep_demo.shop import first_night, second_night, write_catalog
from bgrep_demo.signals import Interrupted, end_cleanly

ROOT = Path(__file__).resolve().parent.parent
DAG_ID = "bgrep_catalog_refresh"
PRICE = 0.2
CHANGED = 2
"""So many images the second night may pay for."""


def main() -> int:
    """Run the demo.

    :return: exit status: 0 if both nights succeeded, and paid for what they had to.
    """
    parser = argparse.ArgumentParser(description="Run the main job on a real Airflow against the emulator.")
    parser.add_argument("--keep", action="store_true", help="leave Airflow's UI up until Ctrl-C")
    parser.add_argument("--out", type=Path, default=ROOT / ".demo", help="where everything goes")
    args = parser.parse_args()
    end_cleanly()
    story = Console()
    try:
        with Services() as services:
            passed = tell(story, services, args.out.absolute(), keep=args.keep)
    except Interrupted as ended:
        print(f"\nEnded by {signal.Signals(ended.signum).name}; nothing was left running.", file=sys.stderr)
        return 128 + ended.signum
    except (OSError, RuntimeError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    return 0 if passed else 1


def tell(story: Console, services: Services, out: Path, *, keep: bool) -> bool:
    """Everything from an empty folder to the galleries of two nights.

    :param out: where Airflow's home and the shop's files go.
    :param keep: leave the UI up at the end, until told to end.
    :return: whether both nights were as they must be.
    """
    shop, home = out / "shop", out / "airflow"
    release = version("apache-airflow-core")
    for folder in (shop, home):
        shutil.rmtree(folder, ignore_errors=True)

    story.chapter("1  The stand-in of the API")
    log = home / "services" / "emulator.log"
    emulator = start_emulator(services, log, "--timing", "lifelike", "--seconds", "10", "0.2")
    samples = {sample.name: sample for sample in emulator.samples}
    story.line(f"the emulator listens at {emulator.url}, and bills nobody")

    story.chapter("2  A real Airflow")
    airflow = Airflow(services, home, ROOT / "dags", {"AIRFLOW_CONN_BGREP_DEFAULT": emulator.connection_json})
    airflow.migrate(template=out / f"empty-{release}.db")
    story.line("its metadata database is ready (SQLite)")
    airflow.start()
    story.line("scheduler, dag-processor, triggerer and api-server are up, each a process of its own")
    airflow.wait_for_dag(DAG_ID)
    story.line(f"watch it, if you like: {airflow.url}/dags/{DAG_ID}  (no login)")

    rows = first_night(samples)
    nights = []
    for number, (words, night_rows) in enumerate(
        (
            (f"{len(rows)} rows, none of them bought before", rows),
            ("two rows changed, one removed, one broken", second_night(rows)),
        ),
        1,
    ):
        story.chapter(f"{number + 2}  Night {number}: {words}")
        night = Night(f"night-{number}", night_rows, shop, emulator.counters.images)
        if not night.run(story, airflow):
            story.line(story.paint("red", f"the run failed; its logs are under {home / 'logs'}"))
            return False
        night.billed = emulator.counters.images - night.before
        nights.append(night)
        story.line(night.summary["line"])
        story.line(f"the service's own bill for this night: {night.billed} images")

    story.chapter("5  Look")
    for night in nights:
        story.line(f"gallery of {night.name}: {story.paint('bold', night.gallery.as_uri())}")
    story.line(f"what a shop's pages read: {shop / 'images' / 'manifest.json'}")
    as_expected = [night.billed for night in nights] == [len(rows), CHANGED]
    if not as_expected:
        story.line(
            story.paint("red", f"billed {[night.billed for night in nights]}, not {[len(rows), CHANGED]}")
        )
    if keep:
        story.chapter(f"Airflow stays up at {story.paint('bold', airflow.url)} (no login). Ctrl-C ends it.")
        story.line(f"the catalog to change, and to run {DAG_ID} on again: {shop / 'catalog.csv'}")
        stay(services)
    return as_expected


@dataclass
class Night:
    """One run of the DAG.

    :param name: of the run.
    :param rows: the catalog's.
    :param shop: the shop's folder.
    :param before: what had been billed before.
    """

    name: str
    rows: Sequence[Mapping[str, str]]
    shop: Path
    before: int
    billed: int = 0
    summary: dict[str, Any] = field(default_factory=dict)

    def run(self, story: Console, airflow: Airflow) -> bool:
        """Write the catalog, run the DAG, tell what its tasks do.

        :return: whether it ended well.
        """
        catalog = self.shop / "catalog.csv"
        write_catalog(self.rows, catalog)
        conf = {
            "catalog": catalog.as_uri(),
            "destination": (self.shop / "images").as_uri(),
            "price_per_image": PRICE,
            "currency": "CNY",
        }
        airflow.trigger(DAG_ID, conf, run_id=self.name)

        def look() -> str | None:
            state = airflow.run_state(DAG_ID, self.name)
            story.tasks(self.name, airflow.tasks(DAG_ID, self.name))
            return state if state in FINISHED else None

        if airflow.services.until(look, f"{self.name} finished", seconds=300, every=0.5) != "success":
            return False
        self.summary = airflow.xcom(DAG_ID, self.name, "refresh.report")
        return True

    @property
    def gallery(self) -> Path:
        """Its gallery's file."""
        return Path(self.summary["gallery"].removeprefix("file://"))


def stay(services: Services) -> None:
    """Do nothing until told to end, or until a service ends."""
    while True:
        services.check()
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
