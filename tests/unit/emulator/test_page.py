# SPDX-License-Identifier: Apache-2.0
"""The index page: samples, counters and jobs, without a word of a prompt taken for HTML."""

from __future__ import annotations

import re

import requests

from airflow_provider_bgrep.emulator.core import Core
from airflow_provider_bgrep.emulator.page import index
from airflow_provider_bgrep.emulator.samples import PROMPTS
from airflow_provider_bgrep.emulator.state import Job, TaskState


def test_the_index_page_lists_all_and_escapes_prompts(api, task, emulator):
    key = api.job(task(positive_prompt="<script>snow</script>"))
    page = requests.get(emulator.url, timeout=9)
    assert page.headers["Content-Type"].startswith("text/html")
    assert key in page.text
    assert "bottle" in page.text
    assert "<script>" not in page.text


def core(*jobs: Job) -> Core:
    found = Core()
    found.base = "http://127.0.0.1:9"
    found.state.jobs = {job.key: job for job in jobs}
    return found


def job(key: str, **facts: object) -> Job:
    task = TaskState(**{"echo": {"positive_prompt": "sea"}, "outputs": 2, **facts})  # type: ignore[arg-type]
    return Job(key, "x", 0.0, [task])


def test_without_jobs_the_page_has_samples_and_counters():
    page = index(core())
    assert "None yet." in page
    assert all(f"http://127.0.0.1:9/samples/{name}.jpg" in page for name in PROMPTS)
    assert "image tasks</span>" in page


def test_each_status_is_shown_with_what_there_is():
    page = index(
        core(
            job("good"),
            job("bad", outcome="FAILED", message="<no> foreground"),
            job("waits", kept_status="WAITING"),
        )
    )
    assert page.count("/results/good/0-") == 4  # a link and an image, of two outputs
    assert "/results/bad/" not in page
    assert "/results/waits/" not in page
    assert "(&lt;no&gt; foreground)" in page
    assert re.findall(r'<b class="(\w+)">', page) == ["WAITING", "FAILED", "SUCCESS"]


def test_the_newest_jobs_are_shown_and_all_are_counted():
    page = index(core(*(job(f"job{number:02}-") for number in range(20))))
    assert "Jobs (20)" in page
    shown = re.findall(r"<code>(job\d\d-)</code>", page)
    assert shown == [f"job{number:02}-" for number in range(19, 7, -1)]


def test_half_a_character_does_not_break_the_page():
    index(core(job("k", echo={"positive_prompt": "\ud83d"}))).encode()
