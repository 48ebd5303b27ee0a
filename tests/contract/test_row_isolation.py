# SPDX-License-Identifier: Apache-2.0
"""An exception of an unforeseen class is raised at each place where one row is worked on.

The row then has a state, a reason and a way out. The other rows are finished, published and billed once. The
exceptions come from what is not ours: a store, a host, a file, a function of a library.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import idna
import pytest
from bgrep_harness.histories import attach_store
from bgrep_harness.images import served
from bgrep_harness.refresh import Refresh, Run
from bgrep_harness.stores import Files
from PIL import Image, ImageCms, ImageDraw

from airflow_provider_bgrep.catalog.state.plan_store import PlanStore

ROWS = 10
BAD = "S3"
MARK = "marker-of-S3"
SIDE = 400


class Unforeseen(Exception):
    """Of a class that no code expects, with a message that cannot be read."""

    def __str__(self) -> str:
        raise RuntimeError("it has no words")


UNFORESEEN = Unforeseen()


def picture(color: tuple[int, int, int], **save: Any) -> bytes:
    image = Image.new("RGB", (SIDE, SIDE), (200, 205, 210))
    ImageDraw.Draw(image).rounded_rectangle((130, 100, 270, 360), 30, fill=color)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=95, **save)
    return out.getvalue()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an image host. The image of the bad row has a comment and a color profile of its own."""
    folder = tmp_path_factory.mktemp("site")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (folder / "good.jpg").write_bytes(picture((180, 60, 40)))
    (folder / "bad.jpg").write_bytes(picture((180, 60, 40), comment=MARK.encode(), icc_profile=profile))
    mask = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(mask).rounded_rectangle((130, 100, 270, 360), 30, fill=255)
    mask.save(folder / "mask.png")
    with served(folder) as url:
        yield url


@dataclass
class Trap:
    """Raises an exception where it is armed.

    :param error: the exception.
    :param sprung: how often it was raised.
    """

    error: Exception
    is_armed: bool = False
    sprung: int = 0

    def spring(self) -> None:
        """Raise the exception, if the trap is armed."""
        if self.is_armed:
            self.sprung += 1
            raise self.error


class Store(Files):
    """A store whose calls of a kind fail for some paths.

    :param fails: which calls fail, as ``sign /shop/S3.jpg``.
    """

    def __init__(self, files: dict[str, bytes], trap: Trap, fails: str, site: str = "") -> None:
        def around(effect: Callable[[], Any]) -> Any:
            trap.spring()
            return effect()

        super().__init__(files, around, fails or "^$")
        self._site = site

    def sign(self, path: str, expiration: int = 100, **kwargs: Any) -> str:
        name = "bad" if f"{BAD}." in path else "good"
        return self._call("sign", path, lambda: f"{self._site}/{name}.jpg?key={path}")


@dataclass
class Shop:
    """A catalog whose images and destination are on stores of a test.

    :param refresh: its runs.
    :param emulator: the API.
    :param trap: fails as the test says.
    :param site: URL of its image host.
    :param rows: its rows.
    """

    refresh: Refresh
    emulator: Any
    trap: Trap
    site: str
    rows: list[dict[str, Any]]

    @contextlib.contextmanager
    def armed(self, is_wanted: bool = True) -> Iterator[None]:
        """Arm the trap for as long as the context lasts."""
        self.trap.is_armed = is_wanted
        try:
            yield
        finally:
            self.trap.is_armed = False

    def run(self, stage: str, **options: Any) -> Run:
        """A run, with the trap armed during one of its tasks."""
        refresh = self.refresh
        with self.armed(stage == "plan"):
            run = refresh.plan(self.rows, **options)
        assert "plan_id" in run.plan, run.results["plan"].error
        for shard in range(run.plan["shards"]):
            with self.armed(stage == "generate"):
                refresh.generate(run, shard)
            with self.armed(stage == "check"):
                refresh.check(run, shard)
        with self.armed(stage == "publish"):
            refresh.publish(run)
        with self.armed(stage == "report"):
            refresh.report(run)
        return run

    @property
    def published(self) -> set[str]:
        return {row["name"] for row in self.refresh.manifest()}


@pytest.fixture
def shop(connection: Any, run: Any, ti: Any, site: str, no_waiting: None, request: Any) -> Shop:
    place = getattr(request, "param", None) or Place("none", "")
    trap = Trap(place.error)
    sources = {f"/shop/S{number}.jpg": b"" for number in range(ROWS)}
    for path in sources:
        name = "bad" if f"{BAD}." in path else "good"
        sources[path] = picture((180, 60, 40), comment=MARK.encode() if name == "bad" else None)
    name = f"row-isolation-{id(trap)}"
    _attach("s3", name, Store(sources, trap, place.source, site))
    attach_store(name, Store({}, trap, place.destination))
    options = {
        "defaults": {"positive_prompt": "{{ name }} on snow", "steps": 15},
        "source_conn_id": name,
        "max_rebuy_share": 1,
        "shard_size": 20,
    }
    refresh = Refresh(f"memory://{name}@shop/images", run, type(ti), options)
    image = "s3://shop/S{}.jpg" if place.is_stored else f"{site}/{{}}.jpg"
    rows = [
        {
            "sku": f"S{number}",
            "name": MARK if f"S{number}" == BAD else f"a mug {number}",
            "image": image.format(number if place.is_stored else "bad" if f"S{number}" == BAD else "good"),
            "mask": f"{site}/mask.png",
            **(place.cells if f"S{number}" == BAD else {}),
        }
        for number in range(ROWS)
    ]
    for one in rows:
        if not place.is_stored:
            one["image"] += f"?v={one['sku']}"
    return Shop(refresh, connection, trap, site, rows)


def _attach(scheme: str, conn_id: str, fs: Any) -> None:
    try:
        from airflow.sdk.io import attach
    except ImportError:  # Airflow 2
        from airflow.io.store import attach
    attach(scheme, conn_id=conn_id, fs=fs)


@dataclass(frozen=True)
class Place:
    """A place where one row is worked on.

    :param name: for the test's name.
    :param stage: the task in which it is.
    :param status: the row's status in the report of the run; ``published`` if nothing becomes of it.
    :param billed: images that the run is billed for.
    :param source: which calls of the sources' store fail, as a regular expression.
    :param destination: which calls of the destination's store fail.
    :param patch: a module or class of a library, the name of its function, and when it fails.
    :param is_stored: whether the images are on the store.
    :param cells: of the bad row.
    :param error: what is raised.
    """

    name: str
    stage: str
    status: str = "invalid"
    billed: int = ROWS - 1
    source: str = ""
    destination: str = ""
    patch: tuple[Any, str, Callable[..., bool]] | None = None
    cells: Any = None
    error: Exception = UNFORESEEN

    def __post_init__(self) -> None:
        object.__setattr__(self, "cells", self.cells or {})

    @property
    def is_stored(self) -> bool:
        """Whether the images are on the store."""
        return bool(self.source)


def has_mark(*args: Any, **kwargs: Any) -> bool:
    """Whether a function is called with something of the bad row."""
    found = False
    for value in (*args, *kwargs.values()):
        data = value.getvalue() if isinstance(value, io.BytesIO) else value
        text = data.encode() if isinstance(data, str) else data
        found = found or (isinstance(text, bytes) and MARK.encode() in text[:100_000])
    return found


def is_narrow(image: Any, *args: Any, **kwargs: Any) -> bool:
    """Whether an image has the sides of the bad row's."""
    return bool(image.size == (256, 256))


def is_of_bad_row(data: Any = b"", **kwargs: Any) -> bool:
    """Whether a checksum is that of the bad row's path."""
    return bytes(data).startswith(f'["{BAD}"'.encode())


IMAGE_3 = r"_bgrep/images/[^/]+_03_0\.\w+$"
PLACES = [
    Place("version of a source", "plan", source=f"^info .*{BAD}"),
    Place("version, StopIteration", "plan", source=f"^info .*{BAD}", error=StopIteration()),
    Place("beginning of a source", "plan", "published", ROWS, source=f"^cat .*{BAD}"),
    Place("decoder of a source", "plan", patch=(Image, "open", has_mark)),
    Place("request hash", "plan", patch=(hashlib, "sha256", has_mark)),
    Place("memory", "plan", patch=(hashlib, "sha256", has_mark), error=MemoryError("no memory")),
    Place(
        "host name",
        "plan",
        patch=(idna, "alabel", lambda label: "bücher" in label),
        cells={"image": "https://bücher.example/a.jpg"},
    ),
    Place(
        "template", "", cells={"name": "x", "positive_prompt": "{{ " + "(" * 400 + "1" + ")" * 400 + " }}"}
    ),
    Place("signature", "generate", "not_submitted", source=f"^sign .*{BAD}"),
    Place("signed too deeply", "generate", "not_submitted", source=f"^sign .*{BAD}", error=RecursionError()),
    Place("saved image", "generate", "pending", ROWS, destination=f"^put .*{IMAGE_3}"),
    Place("fetched source", "check", "unchecked", ROWS, source=f"^(cat|info) .*{BAD}"),
    Place("read image", "check", "unchecked", ROWS, destination=f"^cat .*{IMAGE_3}"),
    Place("decoder of a check", "check", "unchecked", ROWS, patch=(Image, "open", has_mark)),
    Place("color profile", "check", "published", ROWS, patch=(ImageCms, "buildTransform", lambda *_: True)),
    Place("path of a row", "publish", "unpublished", ROWS, patch=(hashlib, "sha256", is_of_bad_row)),
    Place("copied image", "publish", "unpublished", ROWS, destination=f"^put /shop/images/{BAD}/"),
    Place("read before the copy", "publish", "unpublished", ROWS, destination=f"^cat .*{IMAGE_3}"),
    Place("verified file", "publish", "published", ROWS, destination=f"^info /shop/images/{BAD}/"),
]


@contextlib.contextmanager
def patched(place: Place, trap: Trap, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Replace a function of a library by one that may raise an exception while the context lasts."""
    if place.patch is None:
        yield
        return
    home, name, is_bad = place.patch
    regular = getattr(home, name)

    def hostile(*args: Any, **kwargs: Any) -> Any:
        if trap.is_armed and is_bad(*args, **kwargs):
            trap.spring()
        return regular(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(home, name, hostile)
        yield


def reason_of(run: Run, name: str) -> str:
    """What the run says of a row that is not published."""
    invalid = PlanStore(run.paths, run.plan["plan_id"]).invalid_rows()
    texts = [row["reason"] for row in invalid if row["sku"] == name]
    for row in run.processed_rows:
        if row["name"] == name:
            texts += [row["reason"], *json.loads(row["flags"] or "[]")]
    result = PlanStore(run.paths, run.plan["plan_id"]).publish_result()
    texts += [reason for failed, reason in result.get("failed", ()) if failed == name]
    return "; ".join(filter(None, texts))


@pytest.mark.parametrize("shop", PLACES, indirect=True, ids=[place.name for place in PLACES])
def test_one_row_stops_no_other(shop: Shop, monkeypatch: Any, request: Any):
    place: Place = request.node.callspec.params["shop"]
    with patched(place, shop.trap, monkeypatch):
        one = shop.run(place.stage)
    others = {f"S{number}" for number in range(ROWS)} - {BAD}
    assert shop.trap.sprung or not place.stage
    assert shop.published == others | ({BAD} if place.status == "published" else set()), one.states
    assert shop.emulator.counters.images == place.billed
    statuses = one.summary["statuses"]
    if place.status == "published":
        assert statuses == {"published": ROWS}
    else:
        assert statuses == {"published": ROWS - 1, place.status: 1}
        reason = reason_of(one, BAD)
        assert type(place.error).__name__ in reason or place.error.__class__ is Unforeseen or not place.stage
        assert reason
        assert len(reason) < 400
    if place.stage and not place.cells:
        two = shop.run("")
        assert shop.published == others | {BAD}, two.summary
        assert shop.emulator.counters.images == ROWS
        assert shop.emulator.counters.submits <= 2
