# SPDX-License-Identifier: Apache-2.0
"""The cells of the tables of states, as reStructuredText. Needs no Sphinx, so that a test can read them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from airflow_provider_bgrep.catalog.model.lifecycle import LIFECYCLES
from airflow_provider_bgrep.catalog.model.run_states import RUN
from airflow_provider_bgrep.catalog.model.state_tables import NOTHING, LifecycleState


def header_of(entity: str) -> tuple[str, ...]:
    """Return the header of an entity's table."""
    if entity == RUN.entity:
        return ("State", "Airflow shows", "Report and log say", "What you can do")
    return ("State", "Locks", "What ends it", "What you can do")


def identity_of(entity: str) -> str:
    """Return a sentence that says what distinguishes two entities of this kind."""
    life = next(one for one in LIFECYCLES if one.entity == entity)
    return f"*Identified by:* {_text(life.identity[0].lower() + life.identity[1:])}"


def rows_of(entity: str) -> Iterator[tuple[str, ...]]:
    """Return the rows of an entity's table, one for each state.

    :param entity: ``row``, ``purchase``, ``plan`` or ``run``.
    """
    life = next(one for one in LIFECYCLES if one.entity == entity)
    for one in life.states:
        name = f"``{one.state}``\n\n{_text(one.meaning)}"
        if life is RUN:
            yield (name, _text(one.airflow), _text(one.words), _text(one.person))
        else:
            yield (name, _locks(one), _events(one), _text(one.person))


def _text(text: str) -> str:
    """Return a text with names of options and states as literals."""
    return re.sub(r"(?<![`\w])[a-z]+(?:_[a-z]+)+(?:='\w+')?(?![`\w])", r"``\g<0>``", text)


def _locks(state: LifecycleState) -> str:
    if state.locks == NOTHING:
        return _text(state.locks)
    return f"{_text(state.locks)}\n\n*Until:* {_text(state.until)}"


def _events(state: LifecycleState) -> str:
    events = (f"* {_text(one.event)} (by {_text(one.by)}): ``{one.to}``" for one in state.events)
    return "\n".join(events) or "–"
