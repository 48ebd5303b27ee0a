# SPDX-License-Identifier: Apache-2.0
"""A prompt's template reads its row; whatever a stranger writes into one stops that row alone, and soon."""

from __future__ import annotations

import contextlib
from time import monotonic, sleep

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_bgrep.catalog.config import prompt_template
from airflow_provider_bgrep.catalog.config.prompt_template import (
    MAX_RENDERED,
    columns_of,
    is_template,
    render,
)

CELLS = {"name": "mug", "color": "Red", "farbe_neu": "rot", "long": "x" * MAX_RENDERED}


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("A {{ color | lower }} {{ name }}", "A red mug"),
        ("{% if color == 'Red' %}warm{% else %}cold{% endif %}", "warm"),
        ("{{ nothing | default('plain') }}", "plain"),
        ("{% if nothing is defined %}a{% else %}b{% endif %}", "b"),
        ("{{ [name, color] | join(', ') }}", "mug, Red"),
        ("{{ name ~ '-' ~ 3 }} {{ 1.5 }} {{ name == 'mug' }}", "mug-3 1.5 True"),
        ("{{ name[:2] | upper }} <b>&", "MU <b>&"),
        ("{# a remark #}{{ farbe_neu }}", "rot"),
        ("{% raw %}{{ name }}{% endraw %}", "{{ name }}"),
    ],
)
def test_what_templates_are_for(text: str, rendered: str):
    assert is_template(text)
    assert render(text, CELLS, CELLS) == rendered


@pytest.mark.parametrize("text", ["", "a mug", "50 % {off}", "}} %}", "{ {name} }"])
def test_other_text_is_not_a_template(text: str):
    assert not is_template(text)


def test_what_a_template_reads_is_known_without_a_row():
    text = "{{ a }} {% if b is defined %}{{ c | default(d) }}{% endif %} {{ 'e' }} {# f #}"
    assert columns_of(text) == {"a", "b", "c", "d"}


HOSTILE = {
    "nested parentheses": "{{ " + "(" * 4900 + "a" + ")" * 4900 + " }}",
    "nested lists": "{{ " + "[" * 4900 + "]" * 4900 + " }}",
    "nested negations": "{{ " + "not " * 2400 + "name }}",
    "nested signs": "{{ " + "-" * 9000 + "1 }}",
    "nested conditions": "{% if name %}" * 150 + "x" + "{% endif %}" * 150,
    "a chain of attributes": "{{ name" + ".b" * 4900 + " }}",
    "a chain of filters": "{{ name" + "|lower" * 1600 + " }}",
    "a chain of sums": "{{ name" + "+name" * 1900 + " }}",
    "doubling": "{% set a = long ~ long %}" + "{% set a = a ~ a %}" * 100 + "{{ a }}",
    "doubling in a block": "{% set a %}{{ long }}{{ long }}{% endset %}{{ a }}",
    "doubling with": "{% with a = long ~ long %}{{ a }}{% endwith %}",
    "replace upon replace": "{{ name" + "|replace('m','mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm')" * 60 + " }}",
    "join upon join": "{{ long | join(long) | join(long) }}",
    "a filter's block": "{% filter replace('m','" + "m" * 100 + "') %}" * 20 + "mug" + "{% endfilter %}" * 20,
    "long output": "{{ long }}{{ long }}",
    "a loop": "{% for i in name %}{{ i }}{% endfor %}",
    "a range": "{{ range(10 ** 9) }}",
    "a product": "{{ name * 10000000000 }}",
    "a power": "{{ 9 ** 9 ** 9 }}",
    "a format": "{{ '%1000000000d' % 1 }}",
    "a format's filter": "{{ '%1000000000d' | format(1) }}",
    "centered": "{{ name | center(10000000000) }}",
    "an endless number": "{{ " + "9" * 5000 + " }}",
    "a call": "{{ name.upper() }}",
    "a macro": "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "another file": "{% include '/etc/passwd' %}",
    "a parent": "{% extends '/etc/passwd' %}",
    "python": "{{ ''.__class__.__mro__ }}",
    "python by a filter": "{{ name | attr('__class__') }}",
    "python by map": "{{ [name] | map(attribute='__class__') | list | join }}",
    "truncated to less than its end": "{{ name | truncate(2, true, long) }}",
    "rounded to 30,000,000 places": "{{ 1 | round(30000000, 'ceil') }}",
    "rounded by map": "{{ [1] | map('round', 30000000, 'ceil') | first }}",
    "rounded by name": "{{ 1 | round(precision=30000000, method='floor') }}",
    "rounded to a cell": "{{ 1 | round(digits, 'ceil') }}",
    "a long text for a short one": "{{ long | replace('x', long) }}",
    "unfinished": "{{ name",
    "nothing": "{{ }}",
    "missing": "{{ nothing }}",
    "by zero": "{{ 1 / 0 }}",
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_template_is_refused_in_words(text: str):
    with pytest.raises(ValueError, match="cannot be rendered") as refused:
        render(text, CELLS, CELLS)
    assert type(refused.value) is ValueError  # what stops one row, and not an error of any other kind
    assert len(str(refused.value)) < 500
    with contextlib.suppress(ValueError):
        columns_of(text)


@pytest.mark.parametrize(
    "text",
    [
        "{{ ['a', 'b', 'c', 'd', 'e', 'f'] | random }}",
        "{{ [name] | map('upper') }}",  # a generator, which is shown with its address
        "{{ self }}",
        "{% block a %}{{ self.a }}{% endblock %}",
        "{{ [name] }}",
        "{{ none }}",
    ],
)
def test_a_prompt_that_changes_between_runs_is_refused(text: str):
    with pytest.raises(ValueError, match="cannot be rendered"):
        render(text, CELLS, CELLS)


def test_a_cell_that_is_too_long_is_named_if_it_is_read():
    cells = {**CELLS, "story": "y" * (MAX_RENDERED + 1)}
    with pytest.raises(ValueError, match="'story' has more than"):
        render("{{ story | truncate(10) }}", cells, cells)
    assert render("{{ name }}", cells, cells) == "mug"


def test_a_message_names_some_columns_and_counts_the_others():
    cells = {f"column_{i}": "x" for i in range(300)}
    with pytest.raises(ValueError, match=r"'color'.*column_0, .* 280 more"):
        render("{{ color }}", cells, cells)


@settings(deadline=None, max_examples=200)
@given(st.text(st.sampled_from("{}%# ab'\"|()[].~+-*/=<>!,_0\n"), max_size=60))
def test_no_text_breaks_more_than_its_own_row(text: str):
    cells = {"a": "b", "b": "a" * 50}
    with contextlib.suppress(ValueError):
        assert isinstance(render(text, cells, cells), str)
    with contextlib.suppress(ValueError):
        assert isinstance(columns_of(text), frozenset)


@pytest.mark.timeout(10)
def test_a_constant_is_not_evaluated_when_a_template_is_compiled(monkeypatch):
    seen: list[float] = []
    environment = prompt_template._ENVIRONMENT
    monkeypatch.setitem(environment.filters, "watched", lambda value: seen.append(value) or value)
    columns_of("{{ 1 | watched }} {{ 2 | watched ~ 'x' }}")
    assert seen == []
    assert render("{{ 1 | watched }}", {}, ()) == "1"


@pytest.mark.timeout(20)
def test_a_row_that_takes_too_long_stops_itself(monkeypatch):
    monkeypatch.setattr(prompt_template, "SECONDS", 0.2)
    monkeypatch.setitem(
        prompt_template._ENVIRONMENT.filters,
        "slow",
        prompt_template._limited(lambda value: sleep(0.05) or value),
    )
    text = "{{ name" + " | slow" * 100 + " }}"
    begun = monotonic()
    with pytest.raises(ValueError, match="takes longer than"):
        render(text, CELLS, CELLS)
    assert monotonic() - begun < 5
    assert render("{{ name | slow }}", CELLS, CELLS) == "mug"
