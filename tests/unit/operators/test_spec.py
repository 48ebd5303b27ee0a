# SPDX-License-Identifier: Apache-2.0
"""The inputs of a run."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.operators.options import GenerateOptions
from airflow_provider_bgrep.operators.spec import GenerateSpec, SubmitSpec


def generate(on_unknown_outcome: str) -> GenerateSpec:
    return GenerateSpec(
        task_list=[],
        destination="file:///a",
        bgrep_conn_id="c",
        store=None,
        poll_interval=1,
        timeout=1,
        options=GenerateOptions(),
        on_unknown_outcome=on_unknown_outcome,
    )


@pytest.mark.parametrize(("choice", "may_resubmit"), [("fail", False), ("resubmit", True)])
def test_only_who_chose_it_resubmits_after_an_unknown_outcome(choice: str, may_resubmit: bool):
    assert SubmitSpec([], "c", None, choice).may_resubmit is may_resubmit
    assert generate(choice).may_resubmit is may_resubmit
