# SPDX-License-Identifier: Apache-2.0
"""Stops a task's process at a precise point, for a test that kills it from outside.

It observes and changes nothing: Python tells a profile function of every call and return, and the
thread that comes to the point says so in a file, and goes no further until it is told to, or killed.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import os
import sys
import threading
import time
from pathlib import Path
from types import CodeType, FrameType
from typing import Any


def install(point: dict[str, Any], marker: Path) -> None:
    """Watch for a point, in this thread and in those that begin after this.

    :param point: ``function`` (``module:Class.method``), ``event`` (``call`` or ``return``) and ``nth``;
        and ``after``: another ``function``, and how many ``returns`` of it must be seen before it is told.
    :param marker: the file that says the point is reached, and by whom. Once another of the same name
        with ``.go`` is beside it, the thread goes on.
    """
    code, event, nth = code_of(point["function"]), point["event"], point["nth"]
    before, returns = code_of(point["after"]["function"]), point["after"]["returns"]
    counted, seen = itertools.count(1), []  # next() and append() are atomic

    def observe(frame: FrameType, what: str, _: Any) -> None:
        if frame.f_code is before and what == "return":
            seen.append(what)
        if frame.f_code is code and what == event and next(counted) == nth:
            sys.setprofile(None)
            while len(seen) < returns:
                time.sleep(0.01)
            tell(marker, {"task": os.getpid(), "supervisor": os.getppid()})
            go = marker.with_suffix(".go")
            while not go.exists():
                time.sleep(0.1)

    threading.setprofile(observe)
    sys.setprofile(observe)


def code_of(function: str) -> CodeType:
    """The code of a function by its name, so that one that was renamed is an error and no miss."""
    module, _, name = function.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    code: CodeType = inspect.unwrap(found).__code__
    return code


def tell(path: Path, what: dict[str, Any]) -> None:
    """Write a file whole or not at all."""
    beside = path.with_suffix(f".{os.getpid()}.new")
    beside.write_text(json.dumps(what))
    beside.rename(path)
