# SPDX-License-Identifier: Apache-2.0
"""Templates inside image tasks: rendered in a DAG file, and left alone in what comes from XCom."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_bgrep import ImageTask
from airflow_provider_bgrep.templates import ImageTaskTemplates

TASK = ImageTask(image="https://a/{{ x }}.png", positive_prompt="{{ x }}", seed=0, id="{{ x }}")
RENDERED = ImageTask(image="https://a/sea.png", positive_prompt="sea", seed=0, id="sea")


class Airflow:
    """Renders as Airflow's operators do, and notes which texts it was given."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def render_template(self, content: Any, context: Any, **kwargs: Any) -> Any:
        if isinstance(content, str):
            self.texts.append(content)
            return content.replace("{{ x }}", context["x"])
        if isinstance(content, list | tuple):
            return type(content)(self.render_template(one, context) for one in content)
        if isinstance(content, dict):
            return {name: self.render_template(value, context) for name, value in content.items()}
        return content


class Templates(ImageTaskTemplates, Airflow):
    pass


@pytest.mark.parametrize(
    ("content", "rendered"),
    [
        (TASK, RENDERED),
        ([TASK, {"image": "{{ x }}", "steps": 20}], [RENDERED, {"image": "sea", "steps": 20}]),
        ("{{ x }}", "sea"),
        (7, 7),
        (None, None),
    ],
    ids=["image task", "list", "text", "number", "nothing"],
)
def test_image_tasks_are_rendered_wherever_they_stand(content, rendered):
    assert Templates().render_template(content, {"x": "sea"}) == rendered


def test_an_image_task_keeps_its_type_and_unset_fields():
    found = Templates().render_template(TASK, {"x": "sea"})
    assert isinstance(found, ImageTask)
    assert (found.mask, found.negative_prompt, found.num_output) == (None, None, 1)


def test_text_without_a_brace_is_not_compiled():
    templates = Templates()
    assert templates.render_template(["plain", "{{ x }}"], {"x": "sea"}) == ["plain", "sea"]
    assert templates.texts == ["{{ x }}"]
