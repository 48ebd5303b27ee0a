# SPDX-License-Identifier: Apache-2.0
"""What Python imports at its start, where the emulator's package is missing too."""

from __future__ import annotations

import os
import subprocess
import sys

from airflow_provider_bgrep.oss_emulator.resolver import environment


def test_a_python_without_the_package_starts_as_usual(tmp_path):
    command = [sys.executable, "-S", "-c", "import sitecustomize; print('started')"]
    env = os.environ | environment()
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert (done.stdout.strip(), done.stderr) == ("started", "")
