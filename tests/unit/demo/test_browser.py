# SPDX-License-Identifier: Apache-2.0
"""A Chromium is found on the PATH under any of its names; without one, the error says how to install it."""

from __future__ import annotations

from pathlib import Path

import pytest
from bgrep_demo import browser


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder on the PATH; the places of this machine do not count."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(browser, "_PLACES", (str(tmp_path / "Chromium"),))
    return tmp_path


@pytest.mark.parametrize("name", ["chromium", "google-chrome-stable", "Chromium"])
def test_it_is_found_under_any_of_its_names(path: Path, name: str):
    (path / name).touch(mode=0o755)
    assert browser.chromium() == path / name


def test_without_it_one_line_says_what_to_install(path: Path):
    with pytest.raises(RuntimeError) as missing:
        browser.chromium()
    assert "apt-get install chromium" in str(missing.value)
    assert "\n" not in str(missing.value)
