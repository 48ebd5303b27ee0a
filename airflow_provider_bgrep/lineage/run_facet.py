# SPDX-License-Identifier: Apache-2.0
"""The run facet of this provider. Importing this module needs OpenLineage's client."""

from __future__ import annotations

from typing import Final

from attrs import define
from openlineage.client.facet_v2 import RunFacet

RUN_FACET: Final = "bgrep"
"""Name of the facet in an event."""


@define
class BgRepRunFacet(RunFacet):
    """What a task did, in numbers.

    :param planId: the plan of the catalog refresh; ``''`` if there is none.
    :param counts: rows by state, or image tasks by outcome.
    """

    planId: str
    counts: dict[str, int]
