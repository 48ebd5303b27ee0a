# SPDX-License-Identifier: Apache-2.0
"""
### One image, a new background

Submits one image task, waits for it in the triggerer, and saves what was generated.
Press **Trigger** and fill in the form; every field explains itself.

**This costs money** against the real API: each run pays for `num_output` images. A retry does not
pay again. The connection is `bgrep_default`.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_bgrep.operators.bgrep import BgRepDownloadOperator, BgRepSubmitOperator
from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS, URL_SCHEMES
from airflow_provider_bgrep.sensors.bgrep import BgRepSensor


def form_field(name: str, title: str, *, choose: bool = False, **schema: Any) -> Param:
    """A field of the trigger form, with the range, the default and the meaning of the API's field.

    :param name: the API's field name.
    :param title: what the form calls it.
    :param choose: offer the allowed numbers as a list to choose from.
    :param schema: further JSON schema, for Airflow's form; ``default`` in place of the API field's own.
    """
    field = IMAGE_TASK_FIELDS[name]
    kind = {"url": "string", "text": "string", "float": "number", "integer": "integer"}[field.kind]
    if field.kind == "url":
        schema["pattern"] = f"^({'|'.join(URL_SCHEMES)})://"
    elif field.kind == "text":
        schema |= {"maxLength": field.maximum, "minLength": 1 if field.required else 0}
    elif field.minimum is not None and field.maximum is not None:
        schema["exclusiveMinimum" if field.exclusive_minimum else "minimum"] = field.minimum
        schema["maximum"] = field.maximum
        if choose:
            schema["enum"] = list(range(int(field.minimum), int(field.maximum) + 1))
    if field.default is not None or not field.required:
        schema.setdefault("default", field.default)
    return Param(
        type=kind if field.required else ["null", kind],
        title=title,
        description=f"{field.meaning} Allowed: {field.range}.",
        **schema,
    )


with DAG(
    dag_id="bgrep_quickstart",
    schedule=None,
    doc_md=__doc__,
    tags=["bgrep", "example"],
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},
    params={
        "image": form_field("image", "Image"),
        "mask": form_field("mask", "Mask"),
        "positive_prompt": form_field(
            "positive_prompt",
            "Prompt",
            default="on a wooden table in a bright living room, soft morning light",
            examples=[
                "on a wooden table in a bright living room, soft morning light",
                "in fresh snow under a blue winter sky",
                "on a beach at sunset, the sea behind it",
                "on flowing silk, studio light",
                "雪山，蓝天白云",
            ],
        ),
        "negative_prompt": form_field("negative_prompt", "Not in the image"),
        "num_output": form_field("num_output", "Images", choose=True),
        "seed": form_field("seed", "Seed"),
        "guidance_scale": form_field("guidance_scale", "Guidance scale"),
        "strength": form_field("strength", "Strength"),
        "steps": form_field("steps", "Steps"),
        "destination": Param(
            (Path.home() / "bgrep").as_uri(),
            type="string",
            minLength=1,
            title="Destination",
            description="Folder for the images, anywhere your Airflow can write: file://, s3://, gs://, …",
        ),
    },
) as dag:
    # Built by a task rather than by templates: "{{ params.steps }}" would come out as the string "50",
    # and rendering to native objects would turn a prompt that looks like a list into one. What comes
    # from a task keeps its types, and is not rendered again: a prompt with "{%" in it stays text.
    @task
    def image_tasks(params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """The job: one image task, from what the form holds."""
        form = params or {}
        return [{name: form[name] for name in IMAGE_TASK_FIELDS if form.get(name) not in (None, "")}]

    tasks = image_tasks()
    submit = BgRepSubmitOperator(task_id="submit", task_list=tasks)
    # The API promises no order: with task_list each result is matched to the image task it belongs to.
    wait = BgRepSensor(
        task_id="wait",
        result_key=submit.output,
        task_list=tasks,
        deferrable=True,  # no worker is held: the triggerer waits
        poke_interval=5,
        timeout=30 * 60,
    )
    download = BgRepDownloadOperator(
        task_id="download",
        result_key=submit.output,
        task_list=tasks,
        destination="{{ params.destination }}",
    )
    wait >> download
