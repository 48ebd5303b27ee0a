# SPDX-License-Identifier: Apache-2.0
"""Turns the signals that end a program into an exception, so that clean-up runs once, and to its end."""

from __future__ import annotations

import signal
from types import FrameType

from bgrep_demo import subreaper

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """The program was told to end.

    :param signum: by which signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def end_cleanly() -> None:
    """Raise :class:`Interrupted` at the first such signal, ignore later ones; end when the parent ends."""

    def told(signum: int, _: FrameType | None) -> None:
        for one in ENDING:
            signal.signal(one, signal.SIG_IGN)
        raise Interrupted(signum)

    for one in ENDING:
        signal.signal(one, told)
    subreaper.follow_parent(signal.SIGTERM)
