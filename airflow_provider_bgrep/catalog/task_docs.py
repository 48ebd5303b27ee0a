# SPDX-License-Identifier: Apache-2.0
"""What the UI says of each task of a catalog refresh: what it does, what it costs, what a clear does."""

from __future__ import annotations

from typing import Final

GROUP: Final = "Keeps a catalog's images up to date: plan, generate, check, publish, report."

PLAN: Final = """
Compares the catalog with the ledger, and logs which rows a run would submit and what that would cost.

**Costs nothing.** Clear it with downstream to plan again: rows that are submitted already are not submitted
twice.
"""
APPROVE: Final = """
Asks a person, if the run may cost more than `approve_above`, or would submit a large share of the rows again.
Otherwise it passes at once.

**Costs nothing.** Clear it with downstream to ask again.
"""
GENERATE: Final = """
Submits the rows of one shard, waits for the jobs in the triggerer, and saves the images.

**Costs what it submits.** Clear it with downstream: it collects what was submitted, and submits only what is
left.
"""
CHECK: Final = """
Compares the generated images of one shard with their sources, to find products that were changed.

**Costs nothing.** Clear it with downstream to compare again.
"""
PUBLISH: Final = """
Copies the images that passed to names that are never reused, and replaces the manifest. It is skipped if
nothing has changed.

**Costs nothing.** Clear it with downstream to publish again: what is published stays as it is.
"""
REPORT: Final = """
Writes the gallery and the summary. The link *Gallery* opens it; its address is also in the log. It fails if a
shard or the publish task did not finish.

**Costs nothing.**
"""
