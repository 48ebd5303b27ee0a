# SPDX-License-Identifier: Apache-2.0
"""Submits of a shard whose answers come when a test says so."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from airflow_provider_bgrep.catalog.generate import Shard
from airflow_provider_bgrep.journal.journal import Journal, SubmitEntry
from airflow_provider_bgrep.journal.records import SubmittedTask
from bgrep_harness.runs import Destination, Run


@dataclass
class Submit:
    """A submit of one row, of which the answer comes when a test says so."""

    destination: Destination
    run: Run
    entry: SubmitEntry
    name: str

    @classmethod
    def of(cls, run: Run, name: str, **sent: str) -> Submit:
        """Send a row of a run's first shard, and lose the answer."""
        journal = Journal(Shard.read(run.destination.paths, run.plan_id, 0).store, "bgrep_default")
        entry = journal.new_entry([SubmittedTask(f"key-{name}", 1, name, **sent)])
        nonce = secrets.token_hex(16)
        entry.write_intent(nonce)
        run.destination.sent[nonce] = entry.record.at
        run.destination.billed[name, cls.request_hash(run, name)] += 1
        return cls(run.destination, run, entry, name)

    @staticmethod
    def request_hash(run: Run, name: str) -> str:
        return next(one["request_hash"] for one in run.work_items if one["name"] == name)

    @property
    def job(self) -> str:
        """A job of the service for it."""
        key = secrets.token_hex(16)
        self.destination.jobs[key] = [(self.name, self.request_hash(self.run, self.name))]
        return key
