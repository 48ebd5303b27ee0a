# SPDX-License-Identifier: Apache-2.0
"""Nothing wrong is ever sent, and everything wrong is said at once."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_bgrep.protocol import wire
from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS
from airflow_provider_bgrep.protocol.models import TASK_FIELD_NAMES, ImageTask
from airflow_provider_bgrep.protocol.urls import ascii_url, redact_url
from airflow_provider_bgrep.protocol.validation import validate_tasks

IMAGE = "https://example.com/lamp.png"


def task(**fields: Any) -> dict[str, Any]:
    return {"image": IMAGE, "positive_prompt": "a quiet beach", **fields}


def checked(**fields: Any) -> ImageTask:
    (one,) = validate_tasks([task(**fields)])
    return one


def problems(task_list: Any, **kwargs: Any) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        validate_tasks(task_list, **kwargs)
    assert "nothing was sent" in str(caught.value)
    for problem in caught.value.problems:
        assert str(problem) in str(caught.value)
    return {problem.where: problem.what for problem in caught.value.problems}


def problem(**fields: Any) -> str:
    """What is said of the last field, which is the only one that is wrong."""
    found = problems([task(**fields)])
    assert list(found) == [f"task_list[0].{list(fields)[-1]}"]
    return found.popitem()[1]


# --- what is kept -------------------------------------------------------------------------------------


def test_defaults_fill_what_a_mapping_leaves_out():
    assert checked() == ImageTask(image=IMAGE, positive_prompt="a quiet beach")


def test_an_image_task_and_its_mapping_are_the_same():
    one = ImageTask(image=IMAGE, positive_prompt="x", mask=IMAGE, seed=0, steps=15, id="sku-1")
    assert validate_tasks([one]) == validate_tasks([one.as_dict()]) == (one,)


def test_seed_0_is_a_real_seed_and_no_seed_is_none():
    assert checked(seed=0).as_wire()["seed"] == 0
    assert "seed" not in checked().as_wire()
    assert "seed" not in checked(seed=None).as_wire()


def test_absent_keys_stay_absent_and_none_becomes_absent():
    assert set(checked(mask=None, negative_prompt=None, seed=None).as_wire()) == {
        "image",
        "positive_prompt",
        "guidance_scale",
        "strength",
        "steps",
        "num_output",
    }


def test_an_empty_negative_prompt_is_none():
    assert checked(negative_prompt="").negative_prompt is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("guidance_scale", 1),
        ("guidance_scale", 20.0),
        ("strength", 1),
        ("strength", 5e-324),
        ("steps", 15),
        ("steps", 50),
        ("num_output", 1),
        ("num_output", 4),
        ("seed", -1),
        ("seed", 2**63 - 1),
    ],
)
def test_both_ends_of_a_range_are_in_it(field, value):
    assert getattr(checked(**{field: value}), field) == value


@pytest.mark.parametrize("kind", [list, tuple, iter, lambda x: (y for y in x)])
def test_any_iterable_of_tasks_will_do(kind):
    assert len(validate_tasks(kind([task(), task()]))) == 2


class Lazy(Sequence[Any]):
    """As Airflow hands on what mapped tasks returned: no list, and fetched one by one."""

    def __getitem__(self, index: Any) -> Any:
        return [task(), task(steps=20)][index]

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Any]:
        return iter([task(), task(steps=20)])


def test_a_lazy_sequence_will_do():
    assert [one.steps for one in validate_tasks(Lazy())] == [50, 20]


def test_numpys_numbers_are_numbers_and_leave_as_pythons():
    numpy = pytest.importorskip("numpy")
    one = checked(
        steps=numpy.int64(20),
        seed=numpy.uint32(0),
        strength=numpy.float32(0.25),
        guidance_scale=numpy.float64(7.5),
    )
    assert {type(value) for value in (one.steps, one.seed)} == {int}
    assert {type(value) for value in (one.strength, one.guidance_scale)} == {float}
    assert json.loads(wire.submit_body([one]))["data"]["task_list"][0]["strength"] == 0.25


def test_numpys_bools_and_nans_are_refused_as_pythons_are():
    numpy = pytest.importorskip("numpy")
    assert "is a bool" in problem(steps=numpy.bool_(True))
    assert "not a finite number" in problem(strength=numpy.float64("nan"))
    assert "give text" in problem(negative_prompt=numpy.float64("nan"))
    assert "give text" in problem(negative_prompt=numpy.array(["a", "b"]))


# --- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("guidance_scale", 0.999),
        ("guidance_scale", 20.000001),
        ("guidance_scale", -math.inf),
        ("strength", 0),
        ("strength", 0.0),
        ("strength", -0.0),
        ("strength", 1.0000001),
        ("steps", 14),
        ("steps", 51),
        ("num_output", 0),
        ("num_output", 5),
    ],
)
def test_a_number_out_of_range_is_refused_with_value_and_range(field, value):
    what = problem(**{field: value})
    assert IMAGE_TASK_FIELDS[field].range in what
    assert repr(value) in what


@pytest.mark.parametrize("field", ["guidance_scale", "strength", "steps", "num_output", "seed"])
@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        math.nan,
        math.inf,
        -math.inf,
        "7",
        "",
        "{{ params.x }}",
        [1],
        {},
        1j,
        b"1",
        pytest.param(object(), id="an object"),
    ],
    ids=repr,
)
def test_a_field_that_is_not_a_number_is_refused_by_name(field, value):
    what = problem(**{field: value})
    assert IMAGE_TASK_FIELDS[field].range in what


@pytest.mark.parametrize("field", ["steps", "num_output", "seed"])
@pytest.mark.parametrize("value", [20.0, 2.5, Decimal(20), Fraction(20)], ids=repr)
def test_an_integer_field_refuses_a_float(field, value):
    assert "give an integer" in problem(**{field: value})


@pytest.mark.parametrize("value", [Decimal("0.5"), Decimal("NaN"), Decimal("sNaN")], ids=repr)
def test_a_decimal_is_refused_by_name_not_guessed_at(value):
    assert "is a Decimal" in problem(strength=value)


@pytest.mark.parametrize(
    "value", [10**19, 10**400, 10**5000, -(10**5000)], ids=["e19", "e400", "e5000", "-e5000"]
)
@pytest.mark.parametrize("field", ["guidance_scale", "strength", "steps", "num_output", "seed"])
def test_an_enormous_integer_is_refused_with_its_range(field, value):
    assert IMAGE_TASK_FIELDS[field].range in problem(**{field: value})


def test_text_from_a_template_says_how_to_get_a_number():
    assert "render_template_as_native_obj" in problem(steps="20")


@pytest.mark.parametrize("field", ["positive_prompt", "negative_prompt"])
def test_500_characters_are_accepted_and_501_refused(field):
    for letter in ("a", "雪", "😀", "é"):
        assert getattr(checked(**{field: letter * 500}), field) == letter * 500
        what = problem(**{field: letter * 501})
        assert "500 characters" in what
        assert "not truncated" in what


def test_an_emoji_of_several_code_points_counts_as_so_many():
    family = "👨‍👩‍👧"  # five code points
    assert checked(positive_prompt=family * 100).positive_prompt == family * 100
    assert "500 characters" in problem(positive_prompt=family * 101)


def test_a_long_prompt_is_not_repeated_whole():
    assert len(problem(positive_prompt="雪" * 100_000)) < 300


@pytest.mark.parametrize("value", ["", "   ", "\n\t", "\u3000"], ids=repr)
def test_a_blank_prompt_is_refused(value):
    assert "1 to 500 characters" in problem(positive_prompt=value)


@pytest.mark.parametrize("value", [None, 7, ["x"], b"x"], ids=repr)
def test_a_prompt_that_is_not_text_is_refused(value):
    assert "1 to 500 characters" in problem(positive_prompt=value)


def test_a_lone_surrogate_is_refused_before_encoding():
    assert "lone surrogate" in problem(positive_prompt="snow \ud83d")


def test_template_marks_in_a_prompt_are_text():
    assert checked(positive_prompt="100 {% off %} {{ now }}").positive_prompt == "100 {% off %} {{ now }}"


@pytest.mark.parametrize(
    "value",
    [
        "ftp://example.com/a.png",
        "file:///etc/passwd",
        "oss://bucket/a.png",
        "s3://bucket/a.png",
        "data:image/png;base64,iVBORw0KGgo=",
        "DATA:image/png;base64,iVBORw0KGgo=",
        "javascript:alert(1)",
        "//example.com/a.png",
        "example.com/a.png",
        "/local/a.png",
        "C:\\images\\a.png",
        "https://",
        "https:///a.png",
        "https:example.com/a.png",
        "https://:443/a.png",
        "https://[::1/a.png",
        "https://example.com:port/a.png",
        "https://example.com:99999/a.png",
        "{{ params.image }}",
        "None",
        "nan",
        "",
        "  ",
    ],
)
@pytest.mark.parametrize("field", ["image", "mask"])
def test_what_is_not_a_web_url_is_refused(field, value):
    assert "http" in problem(**{field: value})


@pytest.mark.parametrize(
    "value",
    [
        "https://example.com/my lamp.png",
        " https://example.com/a.png",
        "https://example.com/a.png\n",
        "https://example.com/\u200ba.png",
        "\ufeffhttps://example.com/a.png",
        "https://example.com/a\x00.png",
        "https://example.com/\ud83d.png",
    ],
    ids=repr,
)
def test_blanks_and_control_characters_in_a_url_are_refused(value):
    assert "blank or a control character" in problem(image=value)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example\\@cdn.example/in/a.png",
        "https://cdn.example\\.evil.example/a.png",
        "https://cdn.example/in\\..\\private/a.png",
    ],
)
def test_a_backslash_before_the_query_is_refused(url):
    """Some clients take it for a slash, and others do not: it is not certain which host is meant."""
    assert "backslash" in problem(image=url)


def test_a_backslash_in_a_query_is_sent_as_it_is():
    url = "https://cdn.example/a.png?text=a\\b"
    assert checked(image=url).image == url


def test_a_data_url_is_not_repeated():
    assert "iVBOR" not in problem(image="data:image/png;base64,iVBORw0KGgo=")


def test_an_image_task_with_raw_jinja_is_refused():
    found = problems([ImageTask(image="{{ params.image }}", positive_prompt="x", steps="{{ 20 }}")])  # type: ignore[arg-type]
    assert set(found) == {"task_list[0].image", "task_list[0].steps"}


def test_no_password_and_no_signature_of_a_url_is_shown():
    for url in (
        "ftp://user:s3cr3t@example.com/a.png?Signature=s3cr3t#s3cr3t",
        "https://user:s3c@r3t@exam ple.com/a.png?x=s3cr3t",
        "https://user:s3cr3t/x@example.com/",  # the port that Python reads here is the password
        "https://example.com/a.png?token=s3cr3t\n",
    ):
        what = problem(image=url)
        assert "r3t" not in what


@pytest.mark.parametrize(
    "fields",
    [
        {"image": ["https://a.b/c.png?d=e,f&Signature=s3cr3t"]},
        {"mask": {"url": "https://a.b/c.png?Signature=s3cr3t"}},
        {"seed": "https://a.b/c.png?Signature=s3cr3t"},
        {"positive_prompt": "https://a.b/c.png?Signature=s3cr3t" + "x" * 500},
        {"https://a.b/c.png?Signature=s3cr3t": 1},
        {"image": "https:user:s3cr3t@a.b/c d.png"},
    ],
)
def test_a_url_in_a_wrong_place_is_shown_without_secrets(fields):
    assert "s3cr3t" not in str(problems([task(**fields)]))


def test_a_list_that_is_text_is_shown_without_secrets():
    with pytest.raises(InvalidInput) as caught:
        validate_tasks(str([task(image="https://a.b/c.png?Signature=s3cr3t")]))
    assert "s3cr3t" not in str(caught.value)


def test_unknown_fields_are_refused_with_the_likely_name():
    found = problems([task(promt="x", guidence_scale=7, zzz=1)])
    assert set(found) == {"task_list[0].promt", "task_list[0].guidence_scale", "task_list[0].zzz"}
    assert "did you mean 'guidance_scale'?" in found["task_list[0].guidence_scale"]
    assert all(name in found["task_list[0].zzz"] for name in TASK_FIELD_NAMES)


def test_a_byte_order_mark_before_a_column_is_made_visible():
    found = problems([{"\ufeffimage": IMAGE, "positive_prompt": "x"}])
    assert "did you mean 'image'?" in found["task_list[0].'\\ufeffimage'"]
    assert "is missing" in found["task_list[0].image"]


def test_a_key_that_is_not_text_is_refused_by_name():
    assert "task_list[0].7" in problems([{**task(), 7: 1}])


def test_every_problem_of_the_whole_list_comes_in_one_message():
    found = problems(
        [
            task(steps=14, strength=0, mask="ftp://x/y"),
            ImageTask(image="nowhere", positive_prompt=""),
            task(),
            "https://example.com/a.png",
            {"positive_prompt": "x", "id": True},
        ]
    )
    assert list(found) == [
        "task_list[0].mask",
        "task_list[0].strength",
        "task_list[0].steps",
        "task_list[1].image",
        "task_list[1].positive_prompt",
        "task_list[3]",
        "task_list[4].image",
        "task_list[4].id",
    ]


def test_eleven_are_too_many_and_none_are_too_few():
    assert "has 11 image tasks; a job has 1 to 10" in problems([task()] * 11)["task_list"]
    assert "is empty" in problems([])["task_list"]
    assert "is empty" in problems(iter(()), most=None)["task_list"]
    assert len(validate_tasks([task()] * 10)) == 10
    assert len(validate_tasks([task()] * 11, most=None)) == 11


def test_too_many_tasks_do_not_hide_what_is_wrong_with_them():
    assert set(problems([task()] * 10 + [task(steps=1)])) == {"task_list", "task_list[10].steps"}


@pytest.mark.parametrize(
    ("task_list", "says"),
    [
        ("[{'image': 'x'}]", "render_template_as_native_obj"),
        ("{{ ti.xcom_pull('x') }}", "an XComArg"),
        (b"[]", "is text"),
        (task(), "is a single dict"),
        (ImageTask(image=IMAGE, positive_prompt="x"), "is a single ImageTask"),
        (None, "is a single NoneType"),
        (7, "is a single int"),
    ],
    ids=["list as text", "template", "bytes", "mapping", "ImageTask", "None", "int"],
)
def test_what_is_not_a_list_is_refused_with_advice(task_list, says):
    assert says in problems(task_list)["task_list"]


@pytest.mark.parametrize("own", ["sku-1", "", 7, "../../etc", "雪"])
def test_an_id_is_text_or_an_integer_and_kept(own):
    assert checked(id=own).id == own


@pytest.mark.parametrize("own", [True, 1.5, ["x"], math.nan])
def test_any_other_id_is_refused(own):
    assert "give a string or an integer" in problem(id=own)


# --- URLs that are encoded ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.com/台灯.png", "https://example.com/%E5%8F%B0%E7%81%AF.png"),
        (
            "https://example.com/a.png?name=台灯&sig=a%2Bb%3D",
            "https://example.com/a.png?name=%E5%8F%B0%E7%81%AF&sig=a%2Bb%3D",
        ),
        ("https://例子.中国/a.png", "https://xn--fsqu00a.xn--fiqs8s/a.png"),
        ("https://例子.中国:8443/台.png", "https://xn--fsqu00a.xn--fiqs8s:8443/%E5%8F%B0.png"),
        ("https://User:Pa%20ss@例子.中国/a", "https://User:Pa%20ss@xn--fsqu00a.xn--fiqs8s/a"),
        ("https://用户@example.com/a", "https://%E7%94%A8%E6%88%B7@example.com/a"),
        ("https://example.com/😀.png#片", "https://example.com/%F0%9F%98%80.png#%E7%89%87"),
    ],
)
def test_chinese_names_and_hosts_are_encoded(url, expected):
    assert checked(image=url).image == expected


def test_a_url_that_is_ascii_stays_as_it_is_to_the_byte():
    url = (
        "HTTPS://Example.COM:443/a%2fb/%E5%8F?Expires=1&Signature=aB%2B%2f=&x-oss-process=image/resize,w_800"
    )
    assert ascii_url(url) is url
    assert checked(image=url).image == url


@pytest.mark.parametrize("url", ["https://例..中国/a.png", f"https://{'雪' * 70}.cn/a.png"])
def test_a_host_that_has_no_ascii_form_is_refused(url):
    assert "cannot be encoded" in problem(image=url)


@pytest.mark.slow
@given(st.text(max_size=80))
@example("https://user:pass@host/a?b#c")
@example("https://a@b@c/d@e")
def test_a_url_is_shown_without_query_and_user(url):
    shown = redact_url(url)
    assert len(shown) < 120
    assert "?" not in shown or "?" not in url.split("?")[0]


# --- properties -------------------------------------------------------------------------------------------

urls = st.sampled_from(
    [
        IMAGE,
        "http://127.0.0.1:8000/a.png",
        "https://例子.中国/台灯.png",
        "ftp://x/y",
        "",
        "x",
        "https://[",
        None,
        7,
    ]
)
texts = st.text(max_size=520) | st.sampled_from(["", " ", "雪" * 500, "雪" * 501, None, 7])
numbers = (
    st.integers()
    | st.floats()
    | st.booleans()
    | st.fractions()
    | st.decimals()
    | st.sampled_from([None, "7", 10**400])
)
mappings = st.fixed_dictionaries(
    {},
    optional={
        "image": urls,
        "mask": urls,
        "positive_prompt": texts,
        "negative_prompt": texts,
        "guidance_scale": numbers | st.floats(1, 20),
        "strength": numbers | st.floats(0, 1),
        "seed": numbers,
        "steps": numbers | st.integers(14, 51),
        "num_output": numbers | st.integers(0, 5),
        "id": st.text() | st.integers() | st.none() | st.booleans(),
        "color": st.none(),
    },
)
good = st.fixed_dictionaries(
    {
        "image": st.sampled_from([IMAGE, "https://例子.中国/台灯.png"]),
        "positive_prompt": st.text(min_size=1).map("x".__add__),
    },
    optional={
        "mask": st.just(IMAGE) | st.none(),
        "negative_prompt": st.text(max_size=100),
        "guidance_scale": st.floats(1, 20) | st.integers(1, 20),
        "strength": st.floats(0, 1, exclude_min=True),
        "seed": st.integers(-(2**63), 2**63 - 1),
        "steps": st.integers(15, 50),
        "num_output": st.integers(1, 4),
    },
)


def _is_named(error: InvalidInput) -> None:
    assert error.problems
    for found in error.problems:
        name = re.fullmatch(r"task_list(?:\[(\d+)\](?:\.(\w+))?)?", found.where)
        assert name is not None
        field = IMAGE_TASK_FIELDS.get(name[2] or "")
        assert field is None or any(part in found.what for part in (field.range, "characters", "Unicode"))


@pytest.mark.slow
@given(st.lists(mappings | good, max_size=12))
def test_what_passes_can_be_sent_and_what_is_refused_is_named(task_list):
    try:
        tasks = validate_tasks(task_list)
    except InvalidInput as error:
        _is_named(error)
        return
    assert 1 <= len(tasks) <= 10
    assert len(tasks) == len(task_list)
    body = wire.submit_body(tasks)
    sent = json.loads(body, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))
    for one, given_task in zip(sent["data"]["task_list"], task_list, strict=True):
        assert set(one) <= set(IMAGE_TASK_FIELDS)
        assert None not in one.values()
        assert one["image"].isascii()
        assert 1 <= len(one["positive_prompt"]) <= 500
        assert len(one.get("negative_prompt", "")) <= 500
        assert 1 <= one["guidance_scale"] <= 20
        assert 0 < one["strength"] <= 1
        assert 15 <= one["steps"] <= 50
        assert 1 <= one["num_output"] <= 4
        assert {type(one[name]) for name in ("steps", "num_output")} == {int}
        assert type(one.get("seed", 0)) is int
        for name in ("seed", "positive_prompt", "steps"):
            if given_task.get(name) is not None:
                assert one[name] == given_task[name]
    # What was checked passes again unchanged, as objects and as an XCom's mappings.
    assert validate_tasks(tasks) == tasks
    assert validate_tasks([one.as_dict() for one in tasks]) == tasks
