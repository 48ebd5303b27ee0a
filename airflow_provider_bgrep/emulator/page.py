# SPDX-License-Identifier: Apache-2.0
"""The index page: samples, counters, the last jobs and their images."""

from __future__ import annotations

import math
from html import escape
from typing import Final

from airflow_provider_bgrep.emulator import jobs, samples
from airflow_provider_bgrep.emulator.core import Core
from airflow_provider_bgrep.emulator.state import Job

_SHOWN: Final = 12
"""Number of jobs shown, newest first: the page causes each of their images to be drawn."""

_LIFE: Final = 600
"""Seconds that the result URLs of the page are valid, independent of the setting."""

_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1080px;padding:28px 24px}
body{color:#222;background:#fafaf8}h1{font-size:24px;margin:0}h2{font-size:16px;margin:30px 0 10px}
p{margin:4px 0;color:#666}code{font-size:13px}.row{display:flex;flex-wrap:wrap;gap:12px}
.card{background:#fff;border:1px solid #e4e2dd;border-radius:8px;overflow:hidden}
figure{margin:0;width:150px}img{display:block;width:150px;height:150px;object-fit:cover}
figcaption{padding:5px 9px;font-size:12.5px;color:#555}.n{padding:8px 14px;min-width:84px}
.n b{display:block;font-size:21px}.n span{font-size:12.5px;color:#666}
.job{padding:10px 14px;margin-bottom:12px}.job img{width:120px;height:120px;border-radius:5px}
.SUCCESS{color:#1a7f4b}.FAILED{color:#b3261e}.RUNNING,.WAITING{color:#9a6700}
"""


def index(core: Core) -> str:
    """Return the page as HTML."""
    counters = "".join(
        f'<div class="card n"><b>{value}</b><span>{escape(name.replace("_", " "))}</span></div>'
        for name, value in core.state.counters.as_dict().items()
    )
    products = "".join(
        f'<figure class="card"><a href="{escape(one.image)}"><img src="{escape(one.image)}" loading="lazy" '
        f'alt="{escape(one.name)}"></a><figcaption>{escape(one.name)} · <a href="{escape(one.mask)}">mask</a>'
        "</figcaption></figure>"
        for one in samples.listing(core.base)
    )
    every = list(core.state.jobs.values())
    shown = "".join(_job(core, job) for job in every[-_SHOWN:][::-1]) or "<p>None yet.</p>"
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>bg-rep emulator</title>'
        f"<style>{_STYLE}</style></head><body><h1>Background generation API: emulator</h1>"
        "<p>Code draws the scenery from words of the prompt, without a diffusion model. Nothing here is "
        "billed.</p>"
        f"<p>Serving <code>{escape(core.base)}</code>, timing {escape(core.settings.timing)}.</p>"
        f'<h2>Counters</h2><div class="row">{counters}</div>'
        f"<h2>Jobs ({len(every)})</h2>{shown}"
        f'<h2>Sample products</h2><div class="row">{products}</div></body></html>'
    )


def _job(core: Core, job: Job) -> str:
    rows = []
    expires = math.ceil(core.state.now() + _LIFE)
    for number, (task, status) in enumerate(zip(job.tasks, job.statuses(core.state.now()), strict=True)):
        images = ""
        if status == "SUCCESS":
            names = [f"{job.key}/{number}-{output}.png" for output in range(task.outputs)]
            signed = [escape(jobs.sign(name, expires, core.state.secret)) for name in names]
            images = "".join(f'<a href="{url}"><img src="{url}" loading="lazy" alt=""></a>' for url in signed)
        prompt = escape(task.echo["positive_prompt"].encode("utf-8", "replace").decode())
        why = f" ({escape(task.message)})" if status == "FAILED" else ""
        rows.append(f'<p><b class="{status}">{status}</b>{why} {prompt}</p><div class="row">{images}</div>')
    return f'<div class="card job"><code>{job.key}</code> · {job.polls} queries{"".join(rows)}</div>'
