# SPDX-License-Identifier: Apache-2.0
"""Stops a task's process at a precise point, for a test that kills it from outside.

It changes nothing: Python calls a profile function for every call and return. The thread that reaches the
point writes a file and stops until the test lets it continue or kills the process.
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
    """Watch for a point in this thread and in threads that start later.

    :param point: ``function`` (``module:Class.method``), ``event`` (``call`` or ``return``) and ``nth``;
        and ``after``: another ``function`` and the number of its ``returns`` to wait for before the file is
        written.
    :param marker: the file to write, with the process ids. The thread continues once a file of the same
        name with the suffix ``.go`` exists.
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
            write_whole(marker, {"task": os.getpid(), "supervisor": os.getppid()})
            go = marker.with_suffix(".go")
            while not go.exists():
                time.sleep(0.1)

    threading.setprofile(observe)
    sys.setprofile(observe)


def code_of(function: str) -> CodeType:
    """Return the code of a function; a name that does not exist is an error."""
    module, _, name = function.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    code: CodeType = inspect.unwrap(found).__code__
    return code


def write_whole(path: Path, what: dict[str, Any]) -> None:
    """Write a file atomically."""
    beside = path.with_suffix(f".{os.getpid()}.new")
    beside.write_text(json.dumps(what))
    beside.rename(path)
