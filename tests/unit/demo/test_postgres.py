# SPDX-License-Identifier: Apache-2.0
"""The newest PostgreSQL is found where packages put it; without one, the error says how to install it."""

from __future__ import annotations

from pathlib import Path

import pytest
from bgrep_demo import postgres


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Neither the PATH nor the places of this machine count."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(postgres, "_PLACES", (f"{tmp_path.relative_to('/')}/postgresql/*/bin",))
    return tmp_path / "postgresql"


def test_the_newest_of_several_is_taken(places: Path):
    for version in ("9", "15", "16", "17"):
        (places / version / "bin").mkdir(parents=True)
        if version != "17":
            (places / version / "bin" / "initdb").touch()
    assert postgres.binaries() == places / "16" / "bin"


def test_without_it_one_line_says_what_to_install(places: Path):
    with pytest.raises(RuntimeError) as missing:
        postgres.binaries()
    assert "apt-get install postgresql" in str(missing.value)
    assert "\n" not in str(missing.value)
