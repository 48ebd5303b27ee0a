# SPDX-License-Identifier: Apache-2.0
"""Turns the signals that end a program into an exception, so that clean-up runs once, and to its end."""

from __future__ import annotations

import signal
from types import FrameType

from bgrep_demo import leash

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ended(BaseException):
    """The program was told to end.

    :param signum: by which signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def end_cleanly() -> None:
    """Raise :class:`Ended` at the first such signal and ignore any further; end when the parent ends."""

    def told(signum: int, _: FrameType | None) -> None:
        for one in ENDING:
            signal.signal(one, signal.SIG_IGN)
        raise Ended(signum)

    for one in ENDING:
        signal.signal(one, told)
    leash.follow_parent(signal.SIGTERM)
