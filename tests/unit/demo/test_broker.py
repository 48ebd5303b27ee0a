# SPDX-License-Identifier: Apache-2.0
"""The broker of the fleet."""

from __future__ import annotations

import pytest
from bgrep_demo.broker import binary


def test_where_redis_is_missing_the_error_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="apt-get install redis-server"):
        binary()
    program = tmp_path / "redis-server"
    program.touch(0o755)
    assert binary() == str(program)
