# SPDX-License-Identifier: Apache-2.0
"""The form of the tables in :mod:`~.lifecycle`: an entity, its states, and the events that end them.

Texts are reStructuredText, since the documentation is rendered from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NOTHING: Final = "Nothing."
"""A state that keeps nobody else from anything."""

FOREVER: Final = "Forever: it is billed."
"""A state that does not end."""


@dataclass(frozen=True, slots=True)
class Event:
    """What ends a state.

    :param event: what happens.
    :param by: who can cause it: a task, the service, a later run, a person.
    :param to: the state that follows.
    """

    event: str
    by: str
    to: str


@dataclass(frozen=True, slots=True)
class LifecycleState:
    """One state.

    :param state: the value of the enum.
    :param meaning: what the state means.
    :param locks: what other tasks and runs may not do meanwhile.
    :param until: what ends the lock.
    :param events: what ends the state; empty for a state that does not end.
    :param person: what a person can do.
    :param airflow: the states of tasks and run that Airflow shows; only for a run.
    :param words: what the report and the task log say; only for a run.
    """

    state: str
    meaning: str
    locks: str
    until: str
    events: tuple[Event, ...]
    person: str
    airflow: str = ""
    words: str = ""


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The states of one kind of entity.

    :param entity: its name.
    :param identity: what distinguishes two of them.
    :param begins: the states in which it can begin.
    :param states: its states.
    """

    entity: str
    identity: str
    begins: tuple[str, ...]
    states: tuple[LifecycleState, ...]
