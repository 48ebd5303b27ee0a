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
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import botocore.exceptions
import idna
import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from bgrep_harness.histories import attach_store
from bgrep_harness.images import served
from bgrep_harness.refresh import Refresh, Run
from bgrep_harness.stores import Files
from PIL import Image, ImageDraw

from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.exceptions import BgRepConfigurationError, BgRepServiceError
from airflow_provider_bgrep.storage import get_bytes, local_copy, put_file, storage_path

ROWS = 10
BAD = "S3"
MARK = "marker-of-S3"
SIZES = {"good": (400, 400), "bad": (480, 400)}


class Unforeseen(Exception):
    """Of a class that no code expects, with a message that cannot be read."""

    def __str__(self) -> str:
        raise RuntimeError("it has no words")


UNFORESEEN = Unforeseen()


def repr_of(value: object) -> str:
    """Return the name of a test's parameter."""
    return type(value).__name__


def picture(name: str) -> bytes:
    """Return the image of a row: that of the bad one has other sides, and a comment."""
    image = Image.new("RGB", SIZES[name], (200, 205, 210))
    ImageDraw.Draw(image).rounded_rectangle((130, 100, 270, 360), 30, fill=(180, 60, 40))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=95, comment=MARK.encode() if name == "bad" else None)
    return out.getvalue()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an image host."""
    folder = tmp_path_factory.mktemp("site")
    for name, sides in SIZES.items():
        (folder / f"{name}.jpg").write_bytes(picture(name))
        mask = Image.new("L", sides)
        ImageDraw.Draw(mask).rounded_rectangle((130, 100, 270, 360), 30, fill=255)
        mask.save(folder / f"{name}-mask.png")
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
    :param folder: a temporary folder.
    """

    refresh: Refresh
    emulator: Any
    trap: Trap
    site: str
    rows: list[dict[str, Any]]
    folder: Path

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
def shop(
    connection: Any, run: Any, ti: Any, site: str, no_waiting: None, request: Any, tmp_path: Path
) -> Shop:
    place = getattr(request, "param", None) or Place("none", "")
    trap = Trap(place.error)
    names = {f"S{number}": "bad" if f"S{number}" == BAD else "good" for number in range(ROWS)}
    sources = {f"/shop/{sku}.jpg": picture(kind) for sku, kind in names.items()}
    name = f"row-isolation-{id(trap)}"
    _attach("s3", name, Store(sources, trap, place.source, site))
    attach_store(name, Store({}, trap, place.destination))
    options = {
        "defaults": {"positive_prompt": "{{ name }} on snow", "steps": 15, "seed": 7},
        "source_conn_id": name,
        "max_rebuy_share": 1,
        "shard_size": 20,
    }
    refresh = Refresh(f"memory://{name}@shop/images", run, type(ti), options)
    rows = [
        {
            "sku": sku,
            "name": MARK if sku == BAD else "a mug",
            "image": f"s3://shop/{sku}.jpg" if place.is_stored else f"{site}/{kind}.jpg?v={sku}",
            "mask": f"{site}/{kind}-mask.png",
            **(place.cells if sku == BAD else {}),
        }
        for sku, kind in names.items()
    ]
    return Shop(refresh, connection, trap, site, rows, tmp_path)


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


def is_wide(image: Any, *args: Any, **kwargs: Any) -> bool:
    """Whether an image is that of the bad row, scaled or not."""
    return bool(image.width > image.height)


def is_wide_area(area: Any, *args: Any, **kwargs: Any) -> bool:
    """Whether an area of an image, height x width, is that of the bad row."""
    return bool(area.shape[1] > area.shape[0])


def is_of_bad_row(data: Any = b"", **kwargs: Any) -> bool:
    """Whether a checksum is that of the bad row's path."""
    return bytes(data).startswith(f'["{BAD}"'.encode())


IMAGE_3 = r"_bgrep/images/[^/]+_03_0\.\w+$"
PLACES = [
    Place("version of a source", "plan", source=f"^info .*{BAD}", error=StopIteration()),
    Place("beginning of a source", "plan", "published", ROWS, source=f"^cat .*{BAD}"),
    Place("decoder of a source", "plan", patch=(Image, "open", has_mark)),
    Place("request hash", "plan", patch=(hashlib, "sha256", has_mark), error=MemoryError("no memory")),
    Place(
        "host name",
        "plan",
        patch=(idna, "alabel", lambda label: "bücher" in label),
        cells={"image": "https://bücher.example/a.jpg"},
    ),
    Place(
        "template", "", cells={"name": "x", "positive_prompt": "{{ " + "(" * 400 + "1" + ")" * 400 + " }}"}
    ),
    Place(
        "template engine",
        "plan",
        patch=(jinja2.Template, "generate", lambda *_: True),
        cells={"positive_prompt": "{{ name | upper }} on snow"},
    ),
    Place("polarity of a mask", "plan", "published", ROWS, patch=(Image.Image, "convert", is_wide)),
    Place("signature", "generate", "not_submitted", source=f"^sign .*{BAD}", error=RecursionError()),
    Place("saved image", "generate", "pending", ROWS, destination=f"^put .*{IMAGE_3}"),
    Place("fetched source", "check", "unchecked", ROWS, source=f"^(cat|info) .*{BAD}"),
    Place("read image", "check", "unchecked", ROWS, destination=f"^cat .*{IMAGE_3}"),
    Place("decoder of a check", "check", "unchecked", ROWS, patch=(Image, "open", has_mark)),
    Place("scaled image", "check", "unchecked", ROWS, patch=(Image.Image, "resize", is_wide)),
    Place("thumbnail", "check", "unchecked", ROWS, patch=(Image.Image, "save", is_wide)),
    Place("edge of the mask", "check", "unchecked", ROWS, patch=(np, "pad", is_wide_area)),
    Place("path of a row", "publish", "not_published", ROWS, patch=(hashlib, "sha256", is_of_bad_row)),
    Place("copied image", "publish", "not_published", ROWS, destination=f"^put /shop/images/{BAD}/"),
    Place("read before the copy", "publish", "not_published", ROWS, destination=f"^cat .*{IMAGE_3}"),
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


@pytest.mark.slow
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
        assert type(place.error).__name__ in reason or not place.stage
        assert reason
        assert len(reason) < 400
    if place.stage and "image" not in place.cells:
        two = shop.run("")
        assert shop.published == others | {BAD}, two.summary
        assert shop.emulator.counters.images == ROWS
        assert shop.emulator.counters.submits <= 2


# --- jobs ------------------------------------------------------------------------------------------


class Broken:
    """A response that is sent and arrives, and cannot be processed.

    :param response: what aiohttp returns.
    :param error: what is raised instead of the response.
    """

    def __init__(self, response: Any, error: Exception) -> None:
        self._response, self._error = response, error

    async def __aenter__(self) -> Any:
        async with self._response as answer:
            await answer.read()
        raise self._error

    async def __aexit__(self, *_: object) -> None:
        """Nothing is left to close."""


def break_first_job(monkeypatch: pytest.MonkeyPatch, trap: Trap, operation: str) -> None:
    """Have each request about the first job raise an exception once its response has arrived."""
    regular, first = aiohttp.ClientSession.post, []

    def post(session: Any, url: Any, **options: Any) -> Any:
        response = regular(session, url, **options)
        if trap.is_armed and (b"task_list" in options["data"]) == (operation == "submit"):
            first.append(options["data"])
            if options["data"] == first[0]:
                trap.sprung += 1
                return Broken(response, trap.error)
        return response

    monkeypatch.setattr(aiohttp.ClientSession, "post", post)


def more_rows(shop: Shop) -> int:
    """Add rows, so that there are two jobs. :return: how many rows there are."""
    shop.rows += [{**shop.rows[0], "sku": f"S{number}"} for number in (ROWS, ROWS + 1)]
    return len(shop.rows)


@pytest.mark.slow
@pytest.mark.parametrize("error", [UNFORESEEN, StopIteration(), RecursionError("deep")], ids=repr_of)
def test_a_submit_that_raises_has_an_unknown_outcome(shop: Shop, monkeypatch: Any, error: Any):
    count = more_rows(shop)
    shop.trap.error = error
    with monkeypatch.context() as patch:
        break_first_job(patch, shop.trap, "submit")
        one = shop.run("generate")
    assert shop.trap.sprung == 1
    unknown = one.summary["statuses"]["unknown_outcome"]
    assert unknown in (2, 10), "whichever job is sent first"
    assert one.summary["statuses"] == {"unknown_outcome": unknown, "published": count - unknown}
    assert (shop.emulator.counters.submits, shop.emulator.counters.images) == (2, count)
    two = shop.run("")
    assert two.counts == {"quarantined": unknown, "unchanged": count - unknown}
    assert (shop.emulator.counters.submits, shop.emulator.counters.images) == (2, count)


@pytest.mark.slow
def test_a_query_that_raises_leaves_its_job_pending(shop: Shop, monkeypatch: Any):
    count = more_rows(shop)
    with monkeypatch.context() as patch:
        break_first_job(patch, shop.trap, "query")
        one = shop.run("generate")
    assert shop.trap.sprung > 1
    assert sorted(one.summary["statuses"].values()) in ([2, 10], [12])
    assert one.summary["statuses"]["pending"] in (2, 10)
    shop.run("")
    assert len(shop.published) == count
    assert (shop.emulator.counters.submits, shop.emulator.counters.images) == (2, count)


@pytest.mark.slow
def test_an_echo_that_cannot_be_read_loses_no_image(shop: Shop, monkeypatch: Any):
    place = Place("", "generate", patch=(unicodedata, "normalize", has_mark))
    with patched(place, shop.trap, monkeypatch):
        one = shop.run("generate")
    assert shop.trap.sprung
    assert one.summary["statuses"] == {"published": ROWS}
    assert shop.emulator.counters.images == ROWS


@pytest.mark.slow
def test_a_job_whose_record_cannot_be_written_is_collected_again(shop: Shop, monkeypatch: Any):
    store = shop.refresh.paths.destination.fs
    store._only = re.compile(r"^put .*_bgrep/images/.*\.json$")
    one = shop.run("generate")
    assert shop.trap.sprung
    assert one.summary["statuses"] == {"pending": ROWS}
    assert "Unforeseen" in reason_of(one, BAD)
    shop.run("")
    assert len(shop.published) == ROWS
    assert shop.emulator.counters.images == ROWS


# --- the report ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_row_that_cannot_be_shown_is_named(shop: Shop):
    run = shop.run("")
    path = run.files.results(0)
    with local_copy(path) as local:
        table = pq.read_table(local)
    rows = table.to_pylist()
    for row in rows:
        if row["name"] == BAD:
            row["flags"] = "[" * 100_000  # Python raises a RecursionError
    local = str(Path(shop.folder) / "results.parquet")
    pq.write_table(pa.Table.from_pylist(rows, table.schema), local)
    put_file(local, path)
    assert shop.refresh.report(run).state == "success"
    page = (get_bytes(run.files.report) or b"").decode()
    assert "Its details cannot be shown: RecursionError" in page
    assert all(f'"name":"S{number}"' in page for number in range(ROWS))
    assert run.summary["statuses"] == {"published": ROWS}


# --- what is not one row's -------------------------------------------------------------------------


def store_of(shop: Shop) -> Store:
    """The store of the sources."""
    found: Store = storage_path(f"s3://{shop.refresh.options['source_conn_id']}@shop/S0.jpg").fs
    return found


STORED = Place("stored", "", source="^$")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "expected"),
    [(UNFORESEEN, BgRepServiceError), (PermissionError("no rights"), BgRepConfigurationError)],
    ids=["unforeseen", "permission"],
)
@pytest.mark.parametrize("shop", [STORED], indirect=True, ids=[""])
def test_a_store_that_fails_for_every_row_fails_the_plan(shop: Shop, error: Any, expected: Any):
    store_of(shop)._only = re.compile("^info ")
    shop.trap.error = error
    with shop.armed():
        outcome = shop.refresh.plan(shop.rows).results["plan"]
    assert type(outcome.error) is expected
    assert len(str(outcome.error)) < 400
    assert shop.run("").summary["statuses"] == {"published": ROWS}


@pytest.mark.slow
def test_an_error_that_every_row_meets_fails_the_plan(shop: Shop, monkeypatch: Any):
    def is_request(data: Any = b"", **kwargs: Any) -> bool:
        return b" on snow" in bytes(data)

    with patched(Place("", "", patch=(hashlib, "sha256", is_request)), shop.trap, monkeypatch), shop.armed():
        outcome = shop.refresh.plan(shop.rows).results["plan"]
    assert type(outcome.error) is BgRepServiceError
    assert "Unforeseen" in str(outcome.error)
    assert shop.run("").summary["statuses"] == {"published": ROWS}


@pytest.mark.slow
@pytest.mark.parametrize("shop", [STORED], indirect=True, ids=[""])
def test_an_error_that_every_row_meets_fails_the_check(shop: Shop):
    store_of(shop)._only = re.compile("^info ")
    one = shop.run("check")
    assert type(one.results["check[0]"].error) is BgRepServiceError
    assert one.results["check[0]"].state == "up_for_retry"
    two = shop.run("")
    assert shop.published == {f"S{number}" for number in range(ROWS)}, two.states
    assert shop.emulator.counters.images == ROWS


class Stopped(BaseException):
    """What stops a task, as Airflow's timeout does."""


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["plan", "check"])
@pytest.mark.parametrize("shop", [STORED], indirect=True, ids=[""])
def test_what_stops_a_task_is_not_caught(shop: Shop, stage: str):
    store_of(shop)._only = re.compile(f"^info .*{BAD}")
    shop.trap.error = Stopped()  # type: ignore[assignment]
    with pytest.raises(Stopped):
        shop.run(stage)
    shop.run("")
    assert len(shop.published) == ROWS
    assert shop.emulator.counters.images == ROWS


SIGNED = "https://shop:canary0password@s3.example/?X-Amz-Signature=canary0signature"
LONG = f"Could not connect to {SIGNED} {'x' * 9_000}"


def refused_with(code: str) -> Exception:
    """Return what botocore raises for a response with a code."""
    return botocore.exceptions.ClientError({"Error": {"Code": code, "Message": LONG}}, "GetObject")


@pytest.mark.parametrize(
    ("error", "is_final"),
    [
        (botocore.exceptions.NoCredentialsError(), True),
        (botocore.exceptions.EndpointConnectionError(endpoint_url=LONG), False),
        (refused_with("AccessDenied"), True),
        (refused_with("SlowDown"), False),
        (PermissionError(LONG), True),
        (OSError(LONG), False),
        (UNFORESEEN, False),
    ],
    ids=repr_of,
)
@pytest.mark.parametrize("path", ["catalog.csv", "folder"])
@pytest.mark.parametrize("shop", [STORED], indirect=True, ids=[""])
def test_a_catalog_that_cannot_be_read_is_named(shop: Shop, path: str, error: Any, is_final: bool):
    store_of(shop)._only = re.compile("^(get|info|ls|exists) ")
    shop.trap.error = error
    catalog = f"s3://{shop.refresh.options['source_conn_id']}@shop/{path}"
    with shop.armed():
        outcome = shop.refresh.plan(shop.rows, catalog=catalog).results["plan"]
    assert type(outcome.error) is (BgRepConfigurationError if is_final else BgRepServiceError)
    assert isinstance(outcome.error, AirflowFailException) is is_final
    text = str(outcome.error)
    assert f"shop/{path} cannot be read" in text
    assert len(text) < 450
    assert "canary" not in text
    assert shop.emulator.counters.submits == 0


@pytest.mark.parametrize(
    ("error", "is_final"), [(OSError(LONG), False), (refused_with("AccessDenied"), True)]
)
def test_a_destination_that_cannot_be_written_to_is_named(shop: Shop, error: Any, is_final: bool):
    store: Store = shop.refresh.paths.destination.fs
    store._only = re.compile("^put .*/writable$")
    shop.trap.error = error
    with shop.armed():
        outcome = shop.refresh.plan(shop.rows).results["plan"]
    assert type(outcome.error) is (BgRepConfigurationError if is_final else BgRepServiceError)
    text = str(outcome.error)
    assert "shop/images cannot be written to" in text
    assert len(text) < 450
    assert "canary" not in text
    assert shop.emulator.counters.requests == 0
