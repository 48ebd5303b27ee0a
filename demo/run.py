# SPDX-License-Identifier: Apache-2.0
"""The demo: a real Airflow runs ``bgrep_quickstart`` against the emulator, and shows what came out.

``make demo`` calls it; ``make demo KEEP=1`` leaves Airflow's UI up afterwards.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bgrep_demo.airflow import FINISHED, Airflow
from bgrep_demo.emulator import save, start_emulator
from bgrep_demo.page import Shot, write_page
from bgrep_demo.scenes import MASK_FORMS, SCENES, Scene
from bgrep_demo.services import Services
from bgrep_demo.signals import Ended, end_cleanly
from bgrep_demo.story import Story

from airflow_provider_bgrep.emulator.samples import Sample

ROOT = Path(__file__).resolve().parent.parent
DAG_ID = "bgrep_quickstart"


def main() -> int:
    """Run the demo.

    :return: exit status: 0 if every run succeeded.
    """
    parser = argparse.ArgumentParser(description="Run the main job on a real Airflow against the emulator.")
    parser.add_argument("--keep", action="store_true", help="leave Airflow's UI up until Ctrl-C")
    parser.add_argument("--out", type=Path, default=ROOT / ".demo", help="where everything goes")
    args = parser.parse_args()
    end_cleanly()
    story = Story()
    try:
        with Services() as services:
            passed = tell(story, services, args.out.absolute(), keep=args.keep)
    except Ended as ended:
        print(f"\nEnded by {signal.Signals(ended.signum).name}; nothing was left running.", file=sys.stderr)
        return 128 + ended.signum
    except (OSError, RuntimeError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    return 0 if passed else 1


def tell(story: Story, services: Services, out: Path, *, keep: bool) -> bool:
    """Everything from an empty folder to the page.

    :param out: where Airflow's home and the pictures go.
    :param keep: leave the UI up at the end, until told to end.
    :return: whether every run succeeded.
    """
    pictures, home, page = out / "pictures", out / "airflow", out / "index.html"
    release = version("apache-airflow-core")
    for folder in (pictures, home):
        shutil.rmtree(folder, ignore_errors=True)
    page.unlink(missing_ok=True)
    pictures.mkdir(parents=True)

    story.chapter("1  The stand-in of the API")
    log = home / "services" / "emulator.log"
    emulator = start_emulator(services, log, "--timing", "lifelike", "--seconds", "20", "0.2")
    samples = {sample.name: sample for sample in emulator.samples}
    story.line(f"the emulator listens at {emulator.url}, and bills nobody")
    # It draws its products when they are first asked for, which takes seconds: while Airflow starts.
    drawing = ThreadPoolExecutor(1)
    inputs = {
        scene.name: drawing.submit(save_inputs, scene.conf(samples), pictures / scene.name)
        for scene in SCENES
    }
    drawing.shutdown(wait=False)

    story.chapter("2  A real Airflow")
    airflow = Airflow(services, home, ROOT / "dags", {"AIRFLOW_CONN_BGREP_DEFAULT": emulator.connection_json})
    airflow.migrate(template=out / f"empty-{release}.db")
    story.line("its metadata database is ready (SQLite)")
    airflow.start()
    story.line("scheduler, dag-processor, triggerer and api-server are up, each a process of its own")
    airflow.wait_for_dag(DAG_ID)
    story.line(f"watch it, if you like: {airflow.url}/dags/{DAG_ID}  (no login)")

    story.chapter(f"3  {len(SCENES)} runs of {DAG_ID}: submit, wait, download")
    wait(inputs.values())
    for scene in SCENES:
        conf = {**scene.conf(samples), "destination": (pictures / scene.name).as_uri()}
        airflow.trigger(DAG_ID, conf, run_id=scene.name)
    states = follow(story, airflow)
    failed = [name for name, state in states.items() if state != "success"]
    if failed:
        story.line(story.paint("red", f"failed: {', '.join(failed)}; the logs are under {home / 'logs'}"))
        return False

    story.chapter("4  What came of it")
    count = emulator.counters
    shots = [shot(scene, inputs[scene.name].result(), airflow, samples) for scene in SCENES]
    write_page(
        page,
        title="New backgrounds for old products",
        lead=f"{len(SCENES)} runs of the DAG {DAG_ID} on Airflow {release}: each submitted a picture, its "
        "mask and a prompt, waited for the job in the triggerer, and saved what was generated.",
        numbers={
            "jobs submitted": count.submits,
            "pictures billed": count.pictures,
            "pictures saved": sum(len(one.results) for one in shots),
            "polls": count.queries,
            "seconds, all in all": round(story.seconds),
        },
        shots=shots,
        foot="The pictures were drawn by the emulator that comes with airflow-provider-bgrep. It is "
        "no diffusion model: it keeps the product to the pixel, and paints scenery from words of the prompt.",
    )
    story.line(f"the bill: {count.submits} jobs, {count.pictures} pictures; {count.queries} polls")
    story.line(f"pictures: {pictures}")
    story.line(f"the page: {story.paint('bold', page.as_uri())}")
    if keep:
        story.chapter(f"Airflow stays up at {story.paint('bold', airflow.url)} (no login). Ctrl-C ends it.")
        story.line("pictures to try in the trigger form:")
        for sample in samples.values():
            story.line(f"  {sample.image}   mask {sample.mask}")
        stay(services)
    return True


def follow(story: Story, airflow: Airflow) -> dict[str, str]:
    """Tell what the tasks do until every run has ended.

    :return: the runs' last states.
    """

    def look() -> dict[str, str] | None:
        states = {scene.name: airflow.run_state(DAG_ID, scene.name) for scene in SCENES}
        for scene in SCENES:
            story.tasks(scene.name, airflow.tasks(DAG_ID, scene.name))
        return states if set(states.values()) <= FINISHED else None

    return airflow.services.until(look, "all runs finished", seconds=300, every=0.5)


def save_inputs(conf: Mapping[str, Any], folder: Path) -> tuple[Path, Path]:
    """Save the source picture and the mask of a run beside what will come out of it."""
    return save(conf["image"], folder, "source"), save(conf["mask"], folder, "mask")


def shot(scene: Scene, inputs: tuple[Path, Path], airflow: Airflow, samples: Mapping[str, Sample]) -> Shot:
    """What went into a run and what came out, for the page."""
    source, mask = inputs
    saved = airflow.xcom(DAG_ID, scene.name, "download")
    return Shot(
        title=scene.title,
        prompt=scene.conf(samples)["positive_prompt"],
        source=source,
        mask=mask,
        results=[Path(file["path"].removeprefix("file://")) for file in saved["files"]],
        facts=[f"seed {scene.seed}", MASK_FORMS[scene.mask_form], f"job {saved['result_key'][:8]}…"],
    )


def stay(services: Services) -> None:
    """Do nothing until told to end, or until a service ends."""
    while True:
        services.check()
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
