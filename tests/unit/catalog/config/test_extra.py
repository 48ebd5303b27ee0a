# SPDX-License-Identifier: Apache-2.0
"""Without the extra, the DAG file says what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

from airflow_provider_bgrep.catalog.config.extra import require_catalog_extra

PARSE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        return None

sys.meta_path.insert(0, Hidden())
try:
    from airflow.sdk import DAG
except ImportError:
    from airflow import DAG
from airflow_provider_bgrep.catalog import catalog_refresh

with DAG("shop", schedule=None):
    try:
        catalog_refresh(catalog="/c.csv", destination="/images", defaults={{"positive_prompt": "x"}})
    except Exception as error:
        print(type(error).__name__, error)
    else:
        print("parsed")
"""


MISSING = (
    "BgRepConfigurationError catalog_refresh needs packages that are not installed (duckdb, pyarrow). "
    "Run: pip install 'airflow-provider-bgrep[catalog]'"
)


@pytest.mark.slow
@pytest.mark.parametrize(("hidden", "printed"), [(["pyarrow", "duckdb"], MISSING), ([], "parsed")])
def test_a_dag_file_without_the_extra_says_what_to_install(hidden, printed):
    run = subprocess.run(
        [sys.executable, "-c", PARSE.format(hidden=hidden)], capture_output=True, text=True, timeout=110
    )
    assert run.stdout.strip().splitlines()[-1:] == [printed], run.stderr


def test_with_the_extra_nothing_is_raised():
    require_catalog_extra()
