# SPDX-License-Identifier: Apache-2.0
"""An object store in memory. A test can delay each call, or let a worker crash in it."""

from __future__ import annotations

import itertools
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_bgrep.storage import storage_path

WRITES = r"^(put|create|rm) "
"""Calls that change something. A crash in any other call leaves the same files as the last of these."""

T = TypeVar("T")
Interceptor = Callable[[Callable[[], Any]], Any]
"""Decides whether and when a call to the store takes effect."""


def at_once(effect: Callable[[], T]) -> T:
    """Execute a call immediately."""
    return effect()


class Died(BaseException):
    """The worker has crashed: no handler runs after this."""


class CrashingStore:
    """Lets a process crash at its n-th call to the store, before or after the call takes effect."""

    def __init__(self, dies_at: int, *, after: bool = False) -> None:
        self._dies_at, self._after = dies_at, after
        self._calls = itertools.count(1)

    def __call__(self, effect: Callable[[], T]) -> T:
        call = next(self._calls)
        if call > self._dies_at or (call == self._dies_at and not self._after):
            raise Died
        value = effect()
        if call == self._dies_at:
            raise Died
        return value


class Counting:
    """Counts calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, effect: Callable[[], T]) -> T:
        self.calls += 1
        return effect()


class Files(MemoryFileSystem):
    """The store as one process sees it; its files are shared with others.

    :param files: contents by path.
    :param around: intercepts each call.
    :param only: a regular expression for ``ls /shop/manifests`` and the like; calls without a match are not
        intercepted.
    """

    cachable = False

    def __init__(self, files: dict[str, bytes], around: Interceptor = at_once, only: str = "") -> None:
        super().__init__()
        self.files, self._around, self._only = files, around, re.compile(only)

    def _call(self, kind: str, path: str, effect: Callable[[], T]) -> T:
        is_ours = self._only.search(f"{kind} {self._strip_protocol(path)}")
        found: T = self._around(effect) if is_ours else effect()
        return found

    def _get(self, path: str) -> bytes:
        try:
            return self.files[self._strip_protocol(path)]
        except KeyError:
            raise FileNotFoundError(path) from None

    def _put(self, path: str, data: bytes) -> None:
        self.files[self._strip_protocol(path)] = bytes(data)

    def _info(self, path: str) -> dict[str, Any]:
        path = self._strip_protocol(path)
        if path in self.files:
            return {"name": path, "size": len(self.files[path]), "type": "file"}
        if any(name.startswith(f"{path}/") for name in self.files):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def _names(self, path: str) -> list[str]:
        start = f"{self._strip_protocol(path)}/"
        found = {
            start + name[len(start) :].partition("/")[0] for name in self.files if name.startswith(start)
        }
        if not found:
            raise FileNotFoundError(path)
        return sorted(found)

    def _create(self, path: str, data: bytes) -> None:
        if self._strip_protocol(path) in self.files:
            raise FileExistsError(path)
        self._put(path, data)

    # --- each of these is one call --------------------------------------------------------------------

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        return self._call("cat", path, lambda: self._get(path)[start:end])

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        put = self._create if mode == "create" else self._put
        self._call("create" if mode == "create" else "put", path, lambda: put(path, value))

    def put_file(self, lpath: str, rpath: str, *args: Any, **kwargs: Any) -> None:
        data = Path(lpath).read_bytes()
        self._call("put", rpath, lambda: self._put(rpath, data))

    def get_file(self, rpath: str, lpath: str, *args: Any, **kwargs: Any) -> None:
        Path(lpath).write_bytes(self._call("get", rpath, lambda: self._get(rpath)))

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        self._call("put", path2, lambda: self._put(path2, self._get(path1)))

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        return self._call("info", path, lambda: self._info(path))

    def exists(self, path: str, **kwargs: Any) -> bool:
        return self._call("exists", path, lambda: self._strip_protocol(path) in self.files)

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        names = self._call("ls", path, lambda: self._names(path))
        return [self._info(name) for name in names] if detail else names

    def rm_file(self, path: str) -> None:
        def remove() -> None:
            self._get(path)
            del self.files[self._strip_protocol(path)]

        self._call("rm", path, remove)


class UndeletableFiles(dict[str, bytes]):
    """The files of a store that refuses deletes."""

    def __delitem__(self, name: str) -> None:
        raise PermissionError(name)


class SigningFiles(Files):
    """A store that signs URLs, and counts how often."""

    signed = 0

    def sign(self, path: str, expiration: int = 100, **kwargs: Any) -> str:
        self.signed += 1
        return f"https://signed.example{self._strip_protocol(path)}?Signature=x"


class OverwritingFiles(Files):
    """A store that ignores exclusive creation, without an error."""

    def _create(self, path: str, data: bytes) -> None:
        self._put(path, data)


class VersionedFiles(OverwritingFiles):
    """A store that ignores exclusive creation, because its versioning was enabled once."""

    def bucket_versioning(self, path: str) -> str:
        return "Suspended"


class RefusingFiles(Files):
    """A store whose file system refuses exclusive creation with an error of its own."""

    def _create(self, path: str, data: bytes) -> None:
        raise NotImplementedError("objects cannot be created exclusively here")


class RacingFiles(Files):
    """A store that first checks whether a file exists, then writes it: two concurrent writers both succeed.

    :param racing: what the names of these writers' files contain.
    """

    def __init__(self, files: dict[str, bytes], racing: str) -> None:
        super().__init__(files)
        self._racing, self._barrier = racing, threading.Barrier(2)

    def _create(self, path: str, data: bytes) -> None:
        is_there = self._strip_protocol(path) in self.files
        if self._racing in path:
            self._barrier.wait(60)
        if is_there:
            raise FileExistsError(path)
        self._put(path, data)


def folder(files: dict[str, bytes], around: Interceptor = at_once, only: str = "") -> Any:
    """A folder in a store, as a process of its own sees it; see :class:`Files`."""
    return folder_on(Files(files, around, only))


def folder_on(fs: Any, scheme: str = "memory", conn_id: str = "") -> Any:
    """A folder in a store that is reached with a file system.

    :param scheme: the scheme of the store's URLs.
    :param conn_id: the connection that stands for it; one of its own by default.
    """
    try:
        from airflow.sdk.io import attach
    except ImportError:  # Airflow 2
        from airflow.io.store import attach

    conn_id = conn_id or f"files-{secrets.token_hex(6)}"
    attach(scheme, conn_id=conn_id, fs=fs)
    return type(storage_path("/"))(f"{scheme}://shop", conn_id=conn_id)


class Actor:
    """A process in a thread of its own, of which each call to the store waits for the test's word.

    :param work: the work; its argument is the interceptor for its calls.
    """

    def __init__(self, work: Callable[[Interceptor], Any]) -> None:
        self._go, self._waits = threading.Semaphore(0), threading.Semaphore(0)
        self.has_ended = False
        self.error: BaseException | None = None
        self.value: Any = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()
        self._waits.acquire()

    def _run(self, work: Callable[[Interceptor], Any]) -> None:
        try:
            self.value = work(self._around)
        except BaseException as error:
            self.error = error
        self.has_ended = True
        self._waits.release()

    def _around(self, effect: Callable[[], T]) -> T:
        self._waits.release()
        self._go.acquire()
        return effect()

    def step(self) -> None:
        """Let the pending call take effect and the process continue to its next call."""
        if not self.has_ended:
            self._go.release()
            self._waits.acquire()

    def finish(self) -> None:
        """Let the process run to its end."""
        while not self.has_ended:
            self.step()
        self._thread.join()


def run_in_turns(actors: Sequence[Actor], turns: Iterable[int]) -> None:
    """Let processes take turns, one call each, then let each run to its end."""
    for turn in turns:
        actors[turn].step()
    for actor in actors:
        actor.finish()
