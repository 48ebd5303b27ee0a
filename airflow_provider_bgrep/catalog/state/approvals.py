# SPDX-License-Identifier: Apache-2.0
"""The questions whether a plan may submit, and their answers. Only the answer to the last question counts.

Each try of the approval task asks a question, whose number is that of the try: Airflow counts on when the
task is retried or cleared, and keeps the number while the task waits. A question and its answer are a file
each. Before a try asks, it removes those of earlier tries; no try writes a file of another one. So a try that
was taken for dead can neither take back the question that followed nor answer it, and no approval that was
taken back, by a refusal or by another question, counts again if one of the files is lost.

The question belongs to the plan that it was asked about: while the task waits, the plan task may be cleared
and make another plan, and Airflow hands that one to the task when the answer comes. An answer therefore
counts only in a plan that has its question.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.storage import get_bytes, names_in, put_bytes, remove

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import PlanPaths

_NAME: Final = re.compile(r"(?:asked|answer)-(\d{4,})\.json")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person said to the last question.

    :param is_approved: whether the plan may submit.
    :param reason: why it may not; ``''`` if it may, or if nobody has answered.
    """

    is_approved: bool = False
    reason: str = ""


class Approvals:
    """The questions of one plan and their answers.

    :param files: the plan's files.
    """

    def __init__(self, files: PlanPaths) -> None:
        self._files = files

    def ask(self, question: int) -> None:
        """Record that a person is asked: answers to earlier questions do not count any more."""
        for number in self._numbers(names_in(self._files.approvals)):
            if number < question:
                # In this order: without its question, an approval does not count, however late it is written.
                remove(self._files.asked(number))
                remove(self._files.answer(number))
        put_bytes(b"{}", self._files.asked(question))

    def record(self, question: int, answer: Answer) -> bool:
        """Record the answer to a question, if it counts.

        :return: whether it counts: whether the question was asked about this plan, and no later one was.
        """
        if not self._is_open(question):
            return False
        value = {"approved": answer.is_approved, "reason": answer.reason}
        put_bytes(json.dumps(value, ensure_ascii=False).encode(), self._files.answer(question))
        return self._is_open(question)  # another try may have asked meanwhile

    def last(self) -> Answer:
        """The answer to the last question. Without its question, an approval does not count.

        :raises BgRepStateError: if its file is damaged.
        """
        question, is_asked = self._last_question()
        path = self._files.answer(question)
        data = get_bytes(path) if question else None
        if data is None:
            return Answer()
        try:
            value = json.loads(data)
            return Answer(value["approved"] is True and is_asked, str(value["reason"]))
        except (ValueError, LookupError, TypeError) as error:
            raise BgRepStateError(
                f"{path} cannot be read: {sanitize_message(error)}. Delete it, and clear the approval task: "
                "it asks again."
            ) from None

    def _is_open(self, question: int) -> bool:
        """Whether a question was asked about this plan, and is the last."""
        return self._last_question() == (question, True)

    def _last_question(self) -> tuple[int, bool]:
        """The number of the last question or answer, 0 if there is none; whether there is the question."""
        names = names_in(self._files.approvals)
        last = max(self._numbers(names), default=0)
        return last, self._files.asked(last).name in names

    @staticmethod
    def _numbers(names: Iterable[str]) -> set[int]:
        """The numbers of the questions and answers whose files have some names."""
        return {int(found[1]) for found in map(_NAME.fullmatch, names) if found}
