# SPDX-License-Identifier: Apache-2.0
"""Attempts are counted by operation."""

from __future__ import annotations

from airflow_provider_bgrep.protocol.codes import GATEWAY_CODES, Operation
from airflow_provider_bgrep.protocol.errors import LOST, NOT_CONNECTED, CallError
from airflow_provider_bgrep.request_counter import RequestCounter


def test_each_operation_is_counted_by_itself():
    counter, other = RequestCounter(), RequestCounter()
    assert counter.counts == dict.fromkeys(Operation, 0)
    for operation in (Operation.QUERY, Operation.SUBMIT, Operation.QUERY):
        counter.add(operation)
    assert counter.counts == {Operation.SUBMIT: 1, Operation.QUERY: 2}
    assert counter.queries == 2
    assert other.queries == 0


def test_only_what_was_refused_for_its_rate_is_throttled():
    calls: list[int] = []
    counter = RequestCounter(lambda: calls.append(1))
    for rule in (GATEWAY_CODES["T429UR"], NOT_CONNECTED, LOST, GATEWAY_CODES["A403IS"]):
        counter.failed(CallError(Operation.QUERY, rule))
    assert counter.throttled == len(calls) == 1
