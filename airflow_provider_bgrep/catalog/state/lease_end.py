# SPDX-License-Identifier: Apache-2.0
"""When the lease of a plan ends, if the clocks of two machines are far apart.

A lease has the time at which it ends, by the clock of the plan task that made it. By the clock of a later
plan task, it may have begun in the future. Then one of the two clocks is wrong, and nobody knows which:

* If it is the first one, the lease must end much earlier than it says, because its run may be gone.
* If it is the second one, the lease is that of a run that is under way, and must not be changed.

So the lease stays as it is. The later plan task writes down when the lease would end if it began now, in a
file of its own, and that counts for those plan tasks by whose clock the lease has not begun either.
"""

from __future__ import annotations

import contextlib
from math import inf
from typing import TYPE_CHECKING

from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.storage import get_bytes, put_bytes

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.state.ledger_metadata import PlanLease
    from airflow_provider_bgrep.catalog.state.plan_store import PlanStore


def end_of(store: PlanStore, lease: PlanLease, now: float, *, remember: bool) -> float:
    """Return when an active lease ends, by the clock of ``now``.

    :param store: the files of its plan.
    :param now: wall clock in seconds.
    :param remember: whether to write down when a lease ends that has not begun. Otherwise nothing is written.
    """
    valid_for = inf
    with contextlib.suppress(BgRepStateError, ValueError):  # whoever needs the plan says what is damaged
        plan = store.find_plan()
        valid_for = plan.valid_for if plan is not None else inf
    if lease.until - valid_for <= now:
        return lease.until
    path = store.paths.ledger / f"end-{lease.plan_id}"
    known = inf
    with contextlib.suppress(ValueError):
        known = float(get_bytes(path) or inf)
    end = min(known, now + valid_for)
    if remember and end < known:
        put_bytes(repr(end).encode(), path)
    return end
