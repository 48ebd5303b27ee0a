# SPDX-License-Identifier: Apache-2.0
"""The course of a job: by polls, by the clock, or at once."""

from __future__ import annotations


def test_at_once_means_at_the_first_query(api, task):
    assert api.states(api.job(task(), task())) == ["SUCCESS", "SUCCESS"]


def test_after_so_many_polls_a_job_waits_runs_and_succeeds(api, task, emulator):
    emulator.configure(timing="polls", polls=4)
    key = api.job(task())
    assert [api.states(key)[0] for _ in range(6)] == ["WAITING"] * 2 + ["RUNNING"] * 2 + ["SUCCESS"] * 2


def test_image_tasks_move_each_for_itself(api, task, emulator):
    emulator.configure(timing="polls", polls=1, stagger=1)
    key = api.job(task(), task(), task())
    assert [api.states(key) for _ in range(4)] == [
        ["WAITING", "WAITING", "WAITING"],
        ["SUCCESS", "RUNNING", "WAITING"],
        ["SUCCESS", "SUCCESS", "RUNNING"],
        ["SUCCESS", "SUCCESS", "SUCCESS"],
    ]


def test_results_are_empty_until_an_image_task_succeeds(api, task, emulator):
    emulator.configure(timing="polls", polls=1)
    key = api.job(task())
    assert api.results(key) == []
    assert len(api.results(key)) == 1


def test_lifelike_time_is_spread_around_its_median(api, task, emulator):
    emulator.configure(timing="lifelike", seconds=(100, 0.3))
    keys = [api.job(*[task()] * 10) for _ in range(10)]
    assert {state for key in keys for state in api.states(key)} == {"WAITING"}
    emulator.advance(100)
    done = sum(state == "SUCCESS" for key in keys for state in api.states(key))
    assert 20 < done < 80
    emulator.advance(400)
    assert {state for key in keys for state in api.states(key)} == {"SUCCESS"}
