# SPDX-License-Identifier: Apache-2.0
"""The command line: what it prints, how it ends, and which options it refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from types import SimpleNamespace

import alibabacloud_oss_v2 as oss
import pytest

from airflow_provider_bgrep.oss_emulator.__main__ import main
from airflow_provider_bgrep.oss_emulator.resolver import localhost_names


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_other_processes_and_ends_cleanly(connect, number):
    options = ["--access-key-id", "id", "--access-key-secret", "secret", "--region", "us-east-1"]
    buckets = ["--bucket", "shop:suspended", "--bucket", "other"]
    process = subprocess.Popen(
        [sys.executable, "-m", "airflow_provider_bgrep.oss_emulator", *options, *buckets],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = [process.stdout.readline().strip() for _ in range(6)]
        assert lines[2:5] == ["Region: us-east-1", "AccessKey ID: id", "AccessKey secret: secret"]
        extra = json.loads(lines[5].removeprefix("AIRFLOW_CONN_OSS_DEFAULT="))["extra"]
        assert (lines[0], f"Internal endpoint: {extra['endpoint']}") == (extra["presign_endpoint"], lines[1])
        there = SimpleNamespace(**{**extra, "endpoint": extra["presign_endpoint"]})
        with localhost_names():
            request = oss.GetBucketVersioningRequest("shop")
            assert connect(there).get_bucket_versioning(request).version_status == "Suspended"
    finally:
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize("bucket", ["Shop", "shop:Enabled"])
def test_a_wrong_bucket_is_an_error_and_no_traceback(bucket, capsys):
    assert main(["--bucket", bucket]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_port_that_is_taken_is_an_error(emulator, capsys):
    assert main(["--port", str(emulator.port)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
