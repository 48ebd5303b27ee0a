# SPDX-License-Identifier: Apache-2.0
"""The parts of the report's pages that do not depend on a run: templates, style, script, and their policy."""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib import resources
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

_PACKAGE: Final = "airflow_provider_bgrep.catalog.report.gallery"
_SCRIPTS: Final = ("data.js", "list.js", "details.js")


@functools.cache
def template(name: str) -> Template:
    """Return the template of a page. It escapes its variables."""
    environment = Environment(
        loader=PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)


@functools.cache
def style() -> str:
    """Return the style of all pages."""
    return _asset("page.css")


@functools.cache
def script() -> str:
    """Return the script of the gallery."""
    return f"(() => {{\n{''.join(map(_asset, _SCRIPTS))}}})();"


@functools.cache
def content_security_policy() -> str:
    """Return the policy of the gallery: run this script, use this style, show images beside it; no more.

    Whoever serves the gallery can send the policy as a header. Then a gallery that somebody has changed
    cannot run any other script.
    """
    return (
        f"default-src 'none'; script-src '{_hash(script())}'; style-src '{_hash(style())}'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    )


def _asset(name: str) -> str:
    return (resources.files(_PACKAGE) / "assets" / name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
