# SPDX-License-Identifier: Apache-2.0
"""What is kept of a check, and for which store it is valid."""

from __future__ import annotations

import json

import pytest
from bgrep_harness.stores import Files, folder_on

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.state.retention import delete_unneeded
from airflow_provider_bgrep.catalog.state.storage_record import (
    StorageRecord,
    fingerprint_of,
    read_record,
    write_record,
)
from airflow_provider_bgrep.storage import connection_of, put_bytes, storage_path
from airflow_provider_bgrep.storage_check import Finding, Level, StorageReport

SECRET = "canary0secret"
REPORT = StorageReport(
    "s3://shop", "s3fs", (Finding("write", Level.OK, "write", "accepted", "it can be", is_essential=True),)
)


@pytest.fixture
def paths() -> CatalogPaths:
    return CatalogPaths(folder_on(Files({})))


def test_a_record_is_read_as_it_was_written(paths):
    assert read_record(paths) is None
    record = StorageRecord("fingerprint", REPORT, "2026-01-01T00:00:00+00:00")
    write_record(paths, record)
    assert read_record(paths) == record


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"version": 2}', b'{"version": 1}', b"\xff"])
def test_a_record_that_cannot_be_read_counts_as_missing(paths, data):
    put_bytes(data, paths.storage)
    assert read_record(paths) is None


def test_retention_keeps_the_record(paths):
    write_record(paths, StorageRecord("fingerprint", REPORT, "now"))
    delete_unneeded(paths, "", 1)
    assert read_record(paths) is not None


# --- the fingerprint ----------------------------------------------------------------------------------------


def s3_connection(**changes: object) -> str:
    extra = {"region_name": "eu-west-1", "aws_session_token": SECRET, **changes.pop("extra", {})}  # type: ignore[dict-item]
    facts = {"conn_type": "aws", "host": "", "login": "key", "password": SECRET, "extra": extra, **changes}
    return json.dumps(facts)


@pytest.fixture
def fingerprint(monkeypatch):
    """The fingerprint of a folder, by its connection."""
    path = folder_on(Files({}))

    def of(connection: str) -> str:
        conn_id = str(connection_of(path))
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", connection)
        return fingerprint_of(path)

    return of


def test_the_fingerprint_depends_on_the_connection(fingerprint):
    found = [
        fingerprint(s3_connection()),
        fingerprint(s3_connection(login="other")),
        fingerprint(s3_connection(host="s3.example")),
        fingerprint(s3_connection(conn_type="oss")),
        fingerprint(s3_connection(extra={"endpoint_url": "https://s3.example"})),
        fingerprint(s3_connection(extra={"config_kwargs": {"signature_version": "s3"}})),
    ]
    assert len(set(found)) == len(found)
    assert fingerprint(s3_connection()) == found[0]


def test_secrets_have_no_influence_on_the_fingerprint(fingerprint):
    before = fingerprint(s3_connection(extra={"endpoint_url": f"https://user:{SECRET}@s3.example"}))
    other = {
        "aws_session_token": "x",
        "endpoint_url": "https://user:x@s3.example",
        "keyfile_dict": {"a": "b"},
    }
    assert fingerprint(s3_connection(password="x", extra=other)) == before


def test_the_key_of_a_connection_string_has_no_influence(fingerprint):
    """Azure's connection strings have the account and its key in one text."""

    def of(account: str, secret: str) -> str:
        text = f"DefaultEndpointsProtocol=https;AccountName={account};{secret};EndpointSuffix=x.example"
        return fingerprint(json.dumps({"conn_type": "adls", "extra": {"connection_string": text}}))

    before = of("shop", f"AccountKey={SECRET}==")
    assert of("shop", "AccountKey=other==") == before
    assert of("shop", f"SharedAccessSignature=sv=2026&sig={SECRET}") == before
    assert of("other", f"AccountKey={SECRET}==") != before


def test_the_host_that_the_environment_gives_is_part_of_it():
    class Client:
        primary_hostname = "shop.blob.example"

    files = Files({})
    path = folder_on(files, "abfs")
    before = fingerprint_of(path)
    files.service_client = Client()
    assert fingerprint_of(path) != before


def test_another_place_or_file_system_is_another_store(tmp_path):
    class Other(Files):
        pass

    path = folder_on(Files({}))
    found = {
        fingerprint_of(one)
        for one in (
            path,
            path / "images",
            folder_on(Other({})),
            folder_on(Files({}), "gs"),
            storage_path(str(tmp_path)),
        )
    }
    assert len(found) == 5
    assert fingerprint_of(storage_path(str(tmp_path))) == fingerprint_of(storage_path(f"file://{tmp_path}"))
