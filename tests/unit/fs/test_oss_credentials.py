# SPDX-License-Identifier: Apache-2.0
"""Credentials from the connection, from a URL, and from the metadata service of an ECS instance."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from airflow_provider_bgrep.fs.oss_connection import parse_connection
from airflow_provider_bgrep.fs.oss_credentials import (
    FetchedCredentials,
    credentials_of,
    instance_credentials,
)
from airflow_provider_bgrep.fs.oss_file_system import OssFileSystem
from airflow_provider_bgrep.protocol.errors import StoreError

ROLES = "/meta-data/ram/security-credentials/"


def answer(seconds: float = 3600, number: int = 1) -> dict[str, str]:
    expiration = datetime.now(UTC) + timedelta(seconds=seconds)
    return {
        "Code": "Success",
        "AccessKeyId": f"STS.{number}",
        "AccessKeySecret": "canary",
        "SecurityToken": "CAIScanary",
        "Expiration": expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


class Source(ThreadingHTTPServer):
    """A server of credentials: what it answers by path, and what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Source

    def _answer(self) -> None:
        token = self.headers.get("X-aliyun-ecs-metadata-token", "")
        self.server.asked.append((self.command, self.path, token))
        body = self.server.answers.get(self.path)
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(200 if body is not None else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = _answer

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def source() -> Iterator[Source]:
    with Source() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def test_the_connections_credentials_are_used_as_they_are():
    extra = {
        "access_key_id": "LTAI",
        "access_key_secret": "canary",
        "region": "cn-hangzhou",
        "security_token": "CAIS",
        "expiration": "2026-11-29T01:00:00Z",
    }
    found = credentials_of(parse_connection("shop", extra=extra)).get_credentials()
    assert (found.access_key_id, found.access_key_secret, found.security_token) == ("LTAI", "canary", "CAIS")
    assert found.expiration == datetime(2026, 11, 29, 1, tzinfo=UTC)


def test_a_url_returns_credentials_that_oss_accepts(source, server, bucket, settings_of):
    key = server.sts(3600)
    source.answers["/c"] = {
        "AccessKeyId": key.access_key_id,
        "AccessKeySecret": key.access_key_secret,
        "SecurityToken": key.security_token,
        "Expiration": datetime.fromtimestamp(key.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    fs = OssFileSystem(settings_of(credentials_uri=f"{source.url}/c", access_key_secret=None))
    fs.pipe_file(f"{bucket}/a", b"one")
    assert fs.cat_file(f"{bucket}/a") == b"one"
    assert len(source.asked) == 1


def test_credentials_are_fetched_again_before_they_expire():
    answers = iter([answer(200, 1), answer(7200, 2), answer(7200, 3)])
    credentials = FetchedCredentials(lambda: next(answers))
    found = [credentials.get_credentials().access_key_id for _ in range(3)]
    assert found == ["STS.1", "STS.2", "STS.2"]


def test_an_expiry_may_be_missing_or_without_a_time_zone():
    for change in ({"Expiration": ""}, {"Expiration": "2126-11-29T01:00:00"}):
        credentials = FetchedCredentials(lambda change=change: {**answer(), **change})
        assert credentials.get_credentials().access_key_id == "STS.1"


def test_credentials_that_are_still_valid_outlast_a_failure():
    answers = [answer(200, 1)]

    def fetch() -> dict[str, str]:
        if not answers:
            raise StoreError("no answer", is_final=False)
        return answers.pop()

    credentials = FetchedCredentials(fetch)
    assert [credentials.get_credentials().access_key_id for _ in range(2)] == ["STS.1", "STS.1"]
    with pytest.raises(StoreError, match="no answer"):
        FetchedCredentials(fetch).get_credentials()


def test_an_instance_has_the_credentials_of_its_role(source):
    source.answers = {"/api/token": "t0ken", ROLES: "shop-role\n", f"{ROLES}shop-role": answer()}
    assert instance_credentials(source.url, "")["AccessKeyId"] == "STS.1"
    assert source.asked == [
        ("PUT", "/api/token", ""),
        ("GET", ROLES, "t0ken"),
        ("GET", f"{ROLES}shop-role", "t0ken"),
    ]
    assert instance_credentials(source.url, "shop-role")["AccessKeyId"] == "STS.1"
    assert len(source.asked) == 5


def test_an_old_metadata_service_has_no_tokens(source):
    source.answers = {f"{ROLES}shop": answer()}
    assert instance_credentials(source.url, "shop")["AccessKeyId"] == "STS.1"


def test_a_source_that_fails_is_reported_without_secrets(source):
    source.answers["/text?canary"] = "canary"
    source.answers["/empty?canary"] = {"Code": "Failed"}
    source.answers["/odd?canary"] = {**answer(), "Expiration": "canary"}
    for path in ("/none?canary", "/text?canary", "/empty?canary", "/odd?canary"):
        extra = {"credentials_uri": f"{source.url}{path}", "region": "cn-hangzhou"}
        with pytest.raises(StoreError) as caught:
            credentials_of(parse_connection("shop", extra=extra)).get_credentials()
        assert "canary" not in str(caught.value)
        assert caught.value.__cause__ is None
    source.shutdown()
    source.server_close()
    with pytest.raises(StoreError, match="metadata service does not answer"):
        instance_credentials(source.url, "shop")
