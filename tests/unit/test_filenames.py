# SPDX-License-Identifier: Apache-2.0
"""The grammar that all file-name templates share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bgrep.catalog.config.filename_template import TEMPLATE_FIELDS as PUBLISH_FIELDS
from airflow_provider_bgrep.catalog.config.filename_template import PublishRules
from airflow_provider_bgrep.download import check_template
from airflow_provider_bgrep.filenames import FilenameGrammar, fill
from airflow_provider_bgrep.protocol.errors import InvalidInput

GRAMMAR = FilenameGrammar(("a", "b", "ext"), ("a", "b"), "{a}-{b}.{ext}")


@pytest.mark.parametrize("template", ["{a}-{b}.{ext}", "{a}/{b}", "夏 {a}{b}", "{{{a}}}_{b}"])
def test_a_template_without_problems(template):
    assert GRAMMAR.problems(template) == []


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (None, "not text"),
        (7, "not text"),
        ("{a}{b", "cannot be read"),
        ("{a:02}{b}", "give {a} alone"),
        ("{a!r}{b}", "give {a} alone"),
        ("{a}{b}{c}", "has 'c'; the fields are a, b, ext"),
        ("{a}", "lacks {b}"),
        ("x", "lacks {a} and {b}"),
        ("/{a}{b}", "inside the destination"),
        ("../{a}{b}", "inside the destination"),
        ("{a}//{b}", "inside the destination"),
        (f"{'x' * 250}/{'x' * 250}/{{a}}{{b}}", "600 are allowed"),
        ("{a}/{b}/{a}{b}/{a}{b}", "600 are allowed"),
    ],
)
def test_each_problem_is_named(template, words):
    assert any(words in problem for problem in GRAMMAR.problems(template))


@given(st.text(max_size=300), st.text(max_size=300))
def test_no_value_leaves_its_place(a, b):
    folder, slash, name = fill("{a}/{b}", {"a": a, "b": b}, {"b": 20}).partition("/")
    assert slash
    assert "/" not in name
    assert folder not in ("", ".", "..")
    assert 0 < len(name.encode()) <= 20


@pytest.mark.parametrize("text", ["y" * 230, "雪" * 80])
def test_a_name_that_is_too_long_is_cut_and_stays_unique(text):
    names = {fill(text + "_{a}_{b}.{ext}", {"a": "k" * 32, "b": b, "ext": "png"}) for b in range(100)}
    assert len(names) == 100
    assert all(len(name.encode()) <= 255 and name.endswith(".png") for name in names)
    # What fits stays as it is.
    assert fill("y" * 200 + "/{a}.{ext}", {"a": 1, "ext": "png"}) == "y" * 200 + "/1.png"


def test_an_id_of_many_bytes_fits_beside_the_other_fields():
    template = "{id}_{result_key}_{index}_{output}_{seed}.{ext}"
    values = {"result_key": "雪" * 100, "index": "00", "output": 0, "seed": 2**62, "ext": "webp"}
    names = [fill(template, {**values, "id": "件" * 200 + end}) for end in "ab"]
    assert names[0] != names[1]
    assert all(len(name.encode()) <= 255 for name in names)


@pytest.mark.parametrize("template", ["{", "{index:02}{sku:>9}", "{price}"])
def test_downloads_and_publishing_share_the_grammar(template):
    with pytest.raises(InvalidInput) as download:
        check_template(template)
    with pytest.raises(InvalidInput) as publish:
        PublishRules(filename_template=template)
    kinds = [
        {word for word in ("cannot be read", "with a format", "the fields are") if word in str(error.value)}
        for error in (download, publish)
    ]
    assert kinds[0] == kinds[1]
    assert "sku" in PUBLISH_FIELDS
