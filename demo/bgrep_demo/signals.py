# SPDX-License-Identifier: Apache-2.0
"""Turns the signals that end a program into an exception, so that cleanup runs once and completely."""

from __future__ import annotations

import signal
from types import FrameType

from bgrep_demo import subreaper

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal ended the program.

    :param signum: the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def end_cleanly() -> None:
    """Raise :class:`Interrupted` on the first signal and ignore later ones; also end when the parent ends."""

    def interrupt(signum: int, _: FrameType | None) -> None:
        for one in ENDING:
            signal.signal(one, signal.SIG_IGN)
        raise Interrupted(signum)

    for one in ENDING:
        signal.signal(one, interrupt)
    subreaper.follow_parent(signal.SIGTERM)
