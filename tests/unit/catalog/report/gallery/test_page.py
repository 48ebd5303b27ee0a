# SPDX-License-Identifier: Apache-2.0
"""What all pages share."""

from __future__ import annotations

import base64
import hashlib
import re

from airflow_provider_bgrep.catalog.report.gallery.page import content_security_policy, script, style


def test_the_policy_allows_this_script_and_this_style_only():
    found = dict(re.findall(r"(script-src|style-src) '(sha256-[^']+)'", content_security_policy()))
    for name, text in (("script-src", script()), ("style-src", style())):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert found[name] == f"sha256-{digest}"
    assert content_security_policy().startswith("default-src 'none'; ")
