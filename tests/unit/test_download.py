# SPDX-License-Identifier: Apache-2.0
"""File-name templates: what cannot work is refused before anything is submitted."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.download import DEFAULT_TEMPLATE, TEMPLATE_FIELDS, check_template
from airflow_provider_bgrep.protocol.errors import InvalidInput


def problems(template: str, *, with_id: bool = False) -> str:
    with pytest.raises(InvalidInput) as caught:
        check_template(template, with_id=with_id)
    assert {problem.where for problem in caught.value.problems} == {"filename_template"}
    return str(caught.value)


@pytest.mark.parametrize("with_id", [False, True])
@pytest.mark.parametrize(
    "template",
    [
        DEFAULT_TEMPLATE,
        "_".join(f"{{{name}}}" for name in TEMPLATE_FIELDS),
        "{result_key}/{index}/{output}",
        "夏季/{seed}-{result_key}.{index}.{output}.{ext}",
        "{{{result_key}}}_{index}_{output}",
    ],
)
def test_what_gives_each_image_its_own_name_is_good(template, with_id):
    check_template(template, with_id=with_id)


def test_result_key_separates_the_images_of_several_jobs():
    check_template("{index}_{output}.{ext}")
    found = problems("{index}_{output}.{ext}", with_id=True)
    assert "lacks {result_key}: images would overwrite each other" in found


def test_an_id_alone_does_not_make_a_unique_name():
    check_template("{id}_{result_key}_{index}_{output}.{ext}", with_id=True)
    assert "lacks {result_key} and {index} and {output}" in problems("{id}.{ext}", with_id=True)
    assert "has 'id'; the fields are result_key, index, output, seed, ext" in problems(
        "{id}_{index}_{output}"
    )


@pytest.mark.parametrize("name", ["sku", "", "0", "index.real", "index[0]", "Index"])
def test_an_unknown_field_is_named_beside_the_known_ones(name):
    found = problems(f"{{{name}}}_{DEFAULT_TEMPLATE}", with_id=True)
    assert f"has {name!r}; the fields are {', '.join(TEMPLATE_FIELDS)}, id" in found


@pytest.mark.parametrize(
    "field", ["{output:02d}", "{output:.0}", "{output:>3}", "{output!r}", "{output!x}", "{output:{index}}"]
)
def test_a_format_specification_in_a_template_is_refused(field):
    assert "give {output} alone" in problems(f"{{result_key}}_{{index}}_{field}.{{ext}}")


@pytest.mark.parametrize("template", ["{", "}", "{index", "{index}_{output}}", "{index}_{output!}"])
def test_what_cannot_be_read_is_refused(template):
    assert "cannot be read" in problems(template)


@pytest.mark.parametrize("folder", ["/", "/etc/", "../", "a/../", "./", "a//", "a/./b/"])
def test_a_name_stays_inside_the_destination(folder):
    assert "is not a name inside the destination" in problems(folder + DEFAULT_TEMPLATE)


def test_a_name_that_ends_in_a_slash_is_none():
    assert "is not a name inside the destination" in problems(DEFAULT_TEMPLATE + "/")


def test_every_problem_is_reported_at_once():
    found = problems("/{sku}")
    assert "3 problems, nothing was sent" in found
    assert all(word in found for word in ("'sku'", "{index} and {output}", "inside the destination"))
