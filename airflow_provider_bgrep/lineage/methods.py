# SPDX-License-Identifier: Apache-2.0
"""The methods by which Airflow's OpenLineage provider asks an operator what it reads and writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_bgrep.lineage.facts import Lineage


class OpenLineageMethods:
    """Mixin for operators. Nobody calls these methods unless the OpenLineage provider is installed.

    The provider calls them in a forked process with a time limit, in which file systems and the connection
    to Airflow's supervisor must not be used. So :meth:`lineage` reads nothing: it knows the rendered
    arguments, and after an execution what that execution left on the operator. A task that was deferred is
    rendered again in the process that resumes it, and only the last execution has a result.
    """

    def lineage(self) -> Lineage:
        """Return what the task reads and writes, as far as it is known now."""
        raise NotImplementedError

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any]:
        """Return what is known before the task is executed."""
        return self.lineage().to_openlineage()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return what is known after the task has succeeded, or was skipped."""
        return self.lineage().to_openlineage()

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return what is known after the task has failed."""
        return self.lineage().to_openlineage()
