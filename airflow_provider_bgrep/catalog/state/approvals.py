# SPDX-License-Identifier: Apache-2.0
"""The questions whether a plan may submit, and their answers. Only the answer to the last question counts.

Each try of the approval task asks a question, whose number is that of the try: Airflow counts on when the
task is retried or cleared, and keeps the number while the task waits. A question and its answer are a file
each, and no try writes a file of another one. So a try that was taken for dead can neither take back the
question that followed nor answer it, and a refusal does not become an approval if one of the files is lost.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.storage import get_bytes, names_in, put_bytes

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
        put_bytes(b"{}", self._files.asked(question))

    def record(self, question: int, answer: Answer) -> bool:
        """Record the answer to a question.

        :return: whether it counts: whether no later question was asked.
        """
        value = {"approved": answer.is_approved, "reason": answer.reason}
        put_bytes(json.dumps(value, ensure_ascii=False).encode(), self._files.answer(question))
        return self._last_question() <= question

    def last(self) -> Answer:
        """The answer to the last question.

        :raises BgRepStateError: if its file is damaged.
        """
        question = self._last_question()
        path = self._files.answer(question)
        data = get_bytes(path) if question else None
        if data is None:
            return Answer()
        try:
            value = json.loads(data)
            return Answer(value["approved"] is True, str(value["reason"]))
        except (ValueError, LookupError, TypeError) as error:
            raise BgRepStateError(f"{path} cannot be read: {sanitize_message(error)}") from None

    def _last_question(self) -> int:
        found = map(_NAME.fullmatch, names_in(self._files.approvals))
        return max((int(name[1]) for name in found if name), default=0)
