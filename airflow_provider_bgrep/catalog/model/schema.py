# SPDX-License-Identifier: Apache-2.0
"""The columns of the ledger, of a plan's work items and of its results; :mod:`~.rows` has their types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.catalog.model.columns import URL_FIELDS

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION: Final = 1
_BLANK: Final = {"VARCHAR": "", "BOOLEAN": False}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the ledger, of a plan's work items or of a shard's results.

    :param name: its name.
    :param type: DuckDB's type: ``VARCHAR`` (never null, ``''`` for none), ``BIGINT`` or ``DOUBLE`` (null for
        none), ``BOOLEAN``, ``BLOB`` or ``BLOB[]``.
    :param meaning: one sentence for people.
    """

    name: str
    type: str
    meaning: str


def _columns(kind: str, **meanings: str) -> tuple[Column, ...]:
    return tuple(Column(name, kind, meaning) for name, meaning in meanings.items())


IDENTITY: Final = _columns(
    "VARCHAR",
    name="Name of the row, and id of the image task: sku, or sku/view unless the view is 'main'.",
    sku="The product's key in the catalog.",
    view="Which image of the product; 'main' by default.",
    request_hash="Hash of the request: all fields below and the edition. 32 hexadecimal digits.",
    row_hash="Hash of the catalog's cells and of the options used to read them. 32 hexadecimal digits.",
    edition="The edition that it was submitted for.",
)

REQUEST: Final = (
    *_columns(
        "VARCHAR",
        image="Source image as in the catalog, without its signature.",
        image_version="Version of its content: ETag, or size and time; '' if only the URL is known.",
        mask="Mask as in the catalog, without its signature.",
        mask_version="Version of the mask's content.",
        positive_prompt="The rendered prompt, as sent.",
        negative_prompt="The rendered prompt, as sent.",
    ),
    Column("guidance_scale", "DOUBLE", "As sent."),
    Column("strength", "DOUBLE", "As sent."),
    *_columns("BIGINT", seed="As sent.", steps="As sent.", num_output="Number of requested images."),
)

OUTCOME: Final = (
    *_columns(
        "VARCHAR",
        outcome="What it came to: an outcome of BgRepGenerateOperator.",
        reason="Why, in words.",
        code="The service's code of a refusal or of a lost answer.",
        journal_key="Its identity in the journal.",
        account="The connection that it was submitted with.",
        result_key="The job.",
        nonce="Nonce of the submit, by which support can find it.",
        request_id="The service's request id of the submit.",
        gateway_request_id="The gateway's request id of the submit.",
        submitted_at="When it was submitted, ISO 8601 in UTC.",
        saved_at="When its images were saved, ISO 8601 in UTC.",
        files="The images: a JSON list of SavedImage.",
        dag_id="The DAG that submitted it.",
        run_id="The DAG run that submitted it.",
        group_id="The task group that submitted it; '' outside of one.",
        plan_id="The plan that submitted it.",
    ),
    *_columns(
        "BIGINT",
        index="Its position in the job.",
        shard="The shard of the plan that submitted it.",
        images="Billable images.",
        actual_seed="The seed that it was generated with, if the service reports it.",
        attempts="Runs that submitted it, or asked for its images, and ended without one of them.",
    ),
)

CHECK: Final = (
    *_columns(
        "VARCHAR",
        verdict="Verdict of the checks: passed, flagged, unchecked; '' before the check.",
        flags="What is wrong with the images: a JSON list of texts.",
        scores="Scores of each image: a JSON list of objects.",
        thresholds="Thresholds of the checks, as JSON.",
    ),
    Column("chosen", "BIGINT", "Index of the published image, from 0."),
)

ENTRY: Final = (*IDENTITY, *REQUEST, *OUTCOME, *CHECK)
"""An entry of the ledger: a record of one purchase. :mod:`~..state.progress` says which of several counts."""

PLANNED: Final = (
    Column("position", "BIGINT", "Place among the plan's work items, from 0; a shard is a range of these."),
    *_columns("VARCHAR", state="See RowState.", change="What changed, in words."),
    Column("line", "BIGINT", "Line of the catalog's file that the row begins on."),
    *_columns(
        "VARCHAR",
        image_url="The source with its signature, if the catalog has one; in work items only.",
        mask_url="The mask with its signature, if the catalog has one; in work items only.",
        unsettled="Of a row to submit: earlier submits of the same request that may still turn out to be "
        "billed, a JSON list of plan, shard and nonce.",
    ),
)

WORK_ITEM: Final = (*PLANNED, *ENTRY)
"""A row that a plan hands to a shard. If it was never submitted, it is blank from ``outcome`` on."""

MADE: Final = tuple(
    column
    for column in WORK_ITEM
    if column.name in ("line", *(f"{name}_url" for name in URL_FIELDS)) or column in (*IDENTITY, *REQUEST)
)
"""What a row of the catalog asks for: the part of a work item that no plan and no purchase changes."""


RESULT: Final = (
    *WORK_ITEM,
    Column("superseded", "BOOLEAN", "Whether a later submit of the same plan took this one's place."),
    Column("thumb_source", "BLOB", "The source image, scaled down; null where there is none."),
    Column("thumb_mask", "BLOB", "The mask, scaled down; null where there is none."),
    Column("thumb_candidates", "BLOB[]", "The output images, scaled down."),
)
"""A row of a shard's results."""


def ddl(columns: tuple[Column, ...]) -> str:
    """The columns as the inside of a ``CREATE TABLE``."""
    return ", ".join(f'"{column.name}" {column.type}' for column in columns)


def blank(columns: tuple[Column, ...] = ENTRY) -> dict[str, Any]:
    """A row without values: ``''``, ``False`` or ``None``, by the column's type."""
    return {column.name: _BLANK.get(column.type) for column in columns}


def arrow_schema(columns: tuple[Column, ...] = ENTRY) -> pa.Schema:
    """The columns as Arrow's schema."""
    import pyarrow as pa

    types = {
        "VARCHAR": pa.string(),
        "BIGINT": pa.int64(),
        "DOUBLE": pa.float64(),
        "BOOLEAN": pa.bool_(),
        "BLOB": pa.binary(),
        "BLOB[]": pa.list_(pa.binary()),
    }
    return pa.schema([pa.field(column.name, types[column.type]) for column in columns])
