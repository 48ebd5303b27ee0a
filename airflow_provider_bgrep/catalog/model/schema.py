# SPDX-License-Identifier: Apache-2.0
"""What the ledger keeps of one purchase for one row, column by column: the one table of its schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the ledger, of a plan's list and of what a shard has checked.

    :param name: its name.
    :param type: DuckDB's type: ``VARCHAR`` (never null, ``''`` for none), ``BIGINT`` or ``DOUBLE`` (null for
        none).
    :param meaning: one sentence for people.
    """

    name: str
    type: str
    meaning: str


def _columns(kind: str, **meanings: str) -> tuple[Column, ...]:
    return tuple(Column(name, kind, meaning) for name, meaning in meanings.items())


IDENTITY: Final = _columns(
    "VARCHAR",
    name="The row: its sku, and its view where that is not 'main' (sku/view). The image task's id.",
    sku="The catalog's own key of the product.",
    view="Which image of the product, 'main' unless said.",
    request_hash="What is bought, 32 hex digits: every field below, and what the images at the URLs were.",
    row_hash="The catalog's cells, and the settings they were read with, 32 hex digits.",
)

BOUGHT: Final = (
    *_columns(
        "VARCHAR",
        image="Source image as the catalog names it, without its signature.",
        image_version="What told its content: ETag, or size and time; '' where only the URL does.",
        mask="Mask, likewise.",
        mask_version="What told its content.",
        positive_prompt="As sent, rendered.",
        negative_prompt="As sent, rendered.",
    ),
    Column("guidance_scale", "DOUBLE", "As sent."),
    Column("strength", "DOUBLE", "As sent."),
    *_columns("BIGINT", seed="As sent.", steps="As sent.", num_output="Images asked for."),
)

BECAME: Final = (
    *_columns(
        "VARCHAR",
        outcome="What became of it: an outcome of BgRepGenerateOperator's.",
        reason="Why, in words.",
        journal_key="Its identity in the journal.",
        account="The connection it was bought with.",
        result_key="The job.",
        nonce="The submit's nonce, by which support can find it.",
        request_id="The submit's request id.",
        gateway_request_id="The gateway's id of it.",
        submitted_at="When, ISO 8601 in UTC.",
        saved_at="When its images were saved, ISO 8601 in UTC.",
        files="The images: a JSON list of SavedImage.",
        dag_id="The DAG that bought it.",
        run_id="The DAG run that bought it.",
        plan_id="The plan that bought it.",
    ),
    *_columns(
        "BIGINT",
        index="Its place in the job.",
        shard="The plan's shard that bought it.",
        images="Images billed, or maybe billed, for it.",
        actual_seed="The seed it was made with, where the service tells.",
        attempts="How many runs have ended on this content without an image.",
    ),
)

CHECKED: Final = (
    *_columns(
        "VARCHAR",
        verdict="What the checks say: passed, flagged, unchecked; '' before.",
        flags="What they found: a JSON list of texts.",
        scores="Their measures, one JSON object an image, in a JSON list.",
        thresholds="What they were held against, JSON.",
    ),
    Column("chosen", "BIGINT", "Which image is published, from 0."),
)

ENTRY: Final = (*IDENTITY, *BOUGHT, *BECAME, *CHECKED)
"""An entry of the ledger. Of entries with equal name, request_hash, result_key and nonce, the last counts."""

PLANNED: Final = (
    Column("position", "BIGINT", "Place in the plan's list, from 0; a shard is a range of these."),
    *_columns("VARCHAR", state="See RowState.", change="What changed, in words."),
    Column("line", "BIGINT", "Line of the catalog's file that the row begins on."),
    *_columns(
        "VARCHAR",
        image_url="The source with its signature, where the catalog gave one; in the plan's list only.",
        mask_url="The mask, likewise.",
    ),
)

WORK_ITEM: Final = (*PLANNED, *ENTRY)
"""A row of the list that a plan hands to its shards; never bought, it has nothing from ``outcome`` on."""


def ddl(columns: tuple[Column, ...]) -> str:
    """The columns as the inside of a ``CREATE TABLE``."""
    return ", ".join(f'"{column.name}" {column.type}' for column in columns)


def blank(columns: tuple[Column, ...] = ENTRY) -> dict[str, str | int | float | None]:
    """A row with nothing in it."""
    return {column.name: "" if column.type == "VARCHAR" else None for column in columns}


def arrow_schema(columns: tuple[Column, ...] = ENTRY) -> pa.Schema:
    """The columns as Arrow's schema."""
    import pyarrow as pa

    types = {"VARCHAR": pa.string(), "BIGINT": pa.int64(), "DOUBLE": pa.float64()}
    return pa.schema([pa.field(column.name, types[column.type]) for column in columns])
