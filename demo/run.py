# SPDX-License-Identifier: Apache-2.0
"""Runs the demo: a real Airflow runs ``bgrep_catalog_refresh`` twice against the emulator.

``make demo`` calls it; ``make demo KEEP=1`` leaves Airflow's UI up afterward.
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
from bgrep_demo.dags import copy_dags
from bgrep_demo.emulator import start_emulator
from bgrep_demo.services import Services
from bgrep_demo.shop import CATALOG, DESTINATION, changed_rows, first_rows, write_catalog
from bgrep_demo.signals import Interrupted, end_cleanly

ROOT = Path(__file__).resolve().parent.parent
DAG_ID = "bgrep_catalog_refresh"
PRICE = 0.2
"""Price of an image in CNY, for the quote."""
CHANGED_IMAGES = 2
"""Images that the second run is billed for."""


def main() -> int:
    """Run the demo.

    :return: exit status: 0 if both runs succeeded and were billed for the expected images.
    """
    parser = argparse.ArgumentParser(description="Refresh a catalog on a real Airflow against the emulator.")
    parser.add_argument("--keep", action="store_true", help="leave Airflow's UI up until Ctrl-C")
    parser.add_argument("--out", type=Path, default=ROOT / ".demo", help="folder for all files")
    args = parser.parse_args()
    end_cleanly()
    console = Console()
    try:
        with Services() as services:
            passed = run_demo(console, services, args.out.absolute(), keep=args.keep)
    except Interrupted as interrupted:
        name = signal.Signals(interrupted.signum).name
        print(f"\nStopped by {name}; all services have ended.", file=sys.stderr)
        return 128 + interrupted.signum
    except (OSError, RuntimeError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    return 0 if passed else 1


def run_demo(console: Console, services: Services, out: Path, *, keep: bool) -> bool:
    """Start the emulator and Airflow in empty folders, run the DAG twice, and print the paths of the reports.

    :param out: folder for Airflow's home and the shop's files.
    :param keep: leave the UI up at the end, until a signal.
    :return: whether both runs succeeded and were billed for the expected images.
    """
    shop, home = out / "shop", out / "airflow"
    release = version("apache-airflow-core")
    for folder in (shop, home):
        shutil.rmtree(folder, ignore_errors=True)

    console.heading("1  Emulator")
    log = home / "services" / "emulator.log"
    emulator = start_emulator(services, log, "--timing", "lifelike", "--seconds", "10", "0.2")
    samples = {sample.name: sample for sample in emulator.samples}
    console.line(f"The emulator of the API listens at {emulator.url}. Nothing is billed.")

    console.heading("2  Airflow")
    dags = copy_dags(ROOT / "dags", home / "dags", shop, samples["sneaker"])
    airflow = Airflow(services, home, dags, {"AIRFLOW_CONN_BGREP_DEFAULT": emulator.connection_json})
    airflow.migrate(template=out / f"empty-{release}.db")
    console.line("The metadata database is ready (SQLite).")
    airflow.start()
    console.line("Scheduler, dag-processor, triggerer and api-server are running.")
    airflow.wait_for_dag(DAG_ID)
    console.line(f"The DAG in the UI: {airflow.url}/dags/{DAG_ID} (no login)")

    rows = first_rows(samples)
    catalogs = (
        (f"{len(rows)} new rows", rows),
        ("two rows changed, one removed, one invalid", changed_rows(rows)),
    )
    runs = []
    for number, (words, catalog_rows) in enumerate(catalogs, 1):
        console.heading(f"{number + 2}  Run {number}: {words}")
        run = Run(f"run-{number}", catalog_rows, shop)
        before = emulator.counters.images
        if not run.execute(console, airflow):
            console.line(console.paint("red", f"The run failed. Its logs are in {home / 'logs'}."))
            return False
        run.billed = emulator.counters.images - before
        runs.append(run)
        console.line(run.report["line"])
        console.line(f"The emulator counted {run.billed} billed images in this run.")

    console.heading("5  Results")
    for run in runs:
        console.line(f"Report of {run.run_id}: {console.paint('bold', run.gallery.as_uri())}")
    console.line(f"Manifest of the published images: {shop / DESTINATION / 'manifest.json'}")
    billed, expected = [run.billed for run in runs], [len(rows), CHANGED_IMAGES]
    if billed != expected:
        console.line(console.paint("red", f"Billed images: {billed}, expected {expected}."))
    if keep:
        console.heading(
            f"Airflow stays up at {console.paint('bold', airflow.url)} (no login). Ctrl-C stops it."
        )
        console.line(f"To refresh again, change {shop / CATALOG} and trigger {DAG_ID}.")
        console.line("The trigger forms are filled in: with this catalog, and with the emulator's samples.")
        wait_for_signal(services)
    return billed == expected


@dataclass
class Run:
    """A run of the DAG.

    :param run_id: its id.
    :param rows: the rows of the catalog.
    :param shop: the shop's folder.
    """

    run_id: str
    rows: Sequence[Mapping[str, str]]
    shop: Path
    billed: int = 0
    report: dict[str, Any] = field(default_factory=dict)

    def execute(self, console: Console, airflow: Airflow) -> bool:
        """Write the catalog, run the DAG and print the states of its tasks.

        :return: whether the run succeeded.
        """
        catalog = self.shop / CATALOG
        write_catalog(self.rows, catalog)
        conf = {
            "catalog": catalog.as_uri(),
            "destination": (self.shop / DESTINATION).as_uri(),
            "price_per_image": PRICE,
            "currency": "CNY",
            "allow_private_sources": True,  # the demo's server is on this machine
        }
        airflow.trigger(DAG_ID, conf, run_id=self.run_id)

        def finished() -> str | None:
            state = airflow.run_state(DAG_ID, self.run_id)
            console.tasks(self.run_id, airflow.tasks(DAG_ID, self.run_id))
            return state if state in FINISHED else None

        if airflow.services.until(finished, f"{self.run_id} finished", seconds=300, every=0.5) != "success":
            return False
        self.report = airflow.xcom(DAG_ID, self.run_id, "refresh.report")
        return True

    @property
    def gallery(self) -> Path:
        """Path of its gallery."""
        return Path(self.report["gallery"].removeprefix("file://"))


def wait_for_signal(services: Services) -> None:
    """Wait until a signal interrupts, or raise if a service ends."""
    while True:
        services.check()
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
