# SPDX-License-Identifier: Apache-2.0
"""Renders templates inside :class:`ImageTask` values, for every class that takes a ``task_list``."""

from __future__ import annotations

from typing import Any

from airflow_provider_bgrep.compat import allow_in_xcom
from airflow_provider_bgrep.protocol.models import ImageTask

allow_in_xcom(ImageTask)  # so that an upstream task can return them


class ImageTaskTemplates:
    """Mixin that renders :class:`ImageTask` values in a DAG file, which Airflow itself does not render.

    Airflow does not render values from XCom, so a prompt from a catalog stays as it is.
    """

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        """Render a value as Airflow does, which calls this for every element of a list."""
        if isinstance(content, str) and "{" not in content:
            return content  # Jinja would compile it: half a second for a list of 500
        rendered = super().render_template  # type: ignore[misc]
        if isinstance(content, ImageTask):
            return ImageTask(**rendered(content.as_dict(), *args, **kwargs))
        return rendered(content, *args, **kwargs)
