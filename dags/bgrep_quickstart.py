# SPDX-License-Identifier: Apache-2.0
"""
### Generate a new background for one image

Submits one image task, waits for it in the triggerer, and saves the generated images.
Press **Trigger** and fill in the form.

**Each run is billed** by the real API, for `num_output` images. A retry is not billed again. The DAG uses the
connection `bgrep_default`.
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
    """Return a field of the trigger form, with the range, the default and the meaning of the API's field.

    :param name: the API's field name.
    :param title: its title in the form.
    :param choose: whether to offer the allowed numbers as a list.
    :param schema: further JSON schema for the form; ``default`` replaces the default of the API's field.
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
    description="A new background for one image: submit, wait, download",
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
            description="Folder for the images, which the workers can write to: file://, s3://, gs://, …",
        ),
    },
) as dag:
    # A task builds the list, not templates: "{{ params.steps }}" would render to the text "50", and
    # rendering to native objects would turn a prompt that looks like a list into a list. The output of a
    # task keeps its types and is not rendered again, so a prompt that contains "{%" stays as it is.
    @task
    def image_tasks(params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the task list: one image task with the values of the form."""
        form = params or {}
        return [{name: form[name] for name in IMAGE_TASK_FIELDS if form.get(name) not in (None, "")}]

    tasks = image_tasks()
    submit = BgRepSubmitOperator(task_id="submit", task_list=tasks)
    # The API does not promise an order. With task_list, each result is matched to its image task.
    wait = BgRepSensor(
        task_id="wait",
        result_key=submit.output,
        task_list=tasks,
        deferrable=True,  # the triggerer waits, and no worker is occupied
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
