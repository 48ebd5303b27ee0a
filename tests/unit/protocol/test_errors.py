# SPDX-License-Identifier: Apache-2.0
"""Errors of the protocol: complete, bounded, without secrets, and rebuilt from their code."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bgrep.protocol.codes import (
    GATEWAY_CODES,
    SERVICE_CODES,
    ErrorKind,
    Operation,
    RetryDecision,
    by_status,
)
from airflow_provider_bgrep.protocol.errors import (
    LOST,
    MAX_MESSAGE,
    MAX_PROBLEMS,
    NO_ANSWER,
    NOT_CONNECTED,
    CallError,
    InvalidInput,
    Problem,
    sanitize_message,
    without_secret,
)

SECRET = "canary0app0code"


# --- a server's words ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\r\nb\x1b[31m\x00c\u2028d\te", "a b [31m c d e"),
        ("  雪  ok ", "雪 ok"),
        ("cannot read https://a.b/x.jpg?sig=canary, yes", "cannot read https://a.b/x.jpg?…, yes"),
        ("<https://a.b/x.jpg#canary>", "<https://a.b/x.jpg?…>"),
        ("https://user:canary@a.b/x.jpg", "https://***@a.b/x.jpg"),
        ("https://user:canary@ry@a.b/x.jpg", "https://***@a.b/x.jpg"),
        ("https://a.b?mail=me@x.y&sig=canary", "https://a.b?…"),
        ("https://user:canary@a.b?mail=me@x.y&sig=canary", "https://***@a.b?…"),
        ("https://a.b/x@2x.png", "https://a.b/x@2x.png"),
        ("why? me@x.y", "why? me@x.y"),
        ("url: /p?a=1&Signature=canary (Caused by x)", "url: /p?… (Caused by x)"),
        (None, "None"),
        (OSError("gone"), "gone"),
        ("", ""),
    ],
)
def test_a_message_is_one_line_without_secrets(text, line):
    assert sanitize_message(text) == line


@given(st.text(max_size=700))
def test_any_message_is_one_printable_line_of_bounded_length(text):
    line = sanitize_message(text)
    assert line.isprintable()
    assert len(line) <= MAX_MESSAGE
    assert line == line.strip()


def test_a_long_message_is_cut_and_shows_it():
    assert sanitize_message("x" * MAX_MESSAGE) == "x" * MAX_MESSAGE
    assert sanitize_message("x" * (MAX_MESSAGE + 1)) == "x" * (MAX_MESSAGE - 1) + "…"


# --- invalid input ------------------------------------------------------------------------------------


def test_invalid_input_keeps_every_problem_and_shows_the_first():
    problems = [Problem(f"task_list[{i}].steps", f"is {i}") for i in range(MAX_PROBLEMS + 7)]
    error = InvalidInput(problems)
    assert error.problems == tuple(problems)
    assert f"task_list[{MAX_PROBLEMS - 1}].steps: is {MAX_PROBLEMS - 1}" in str(error)
    assert f"task_list[{MAX_PROBLEMS}]" not in str(error)
    assert "and 7 more" in str(error)
    assert str(len(problems)) in str(error)


def test_one_problem_is_one_problem():
    assert str(InvalidInput([Problem("image", "is empty")])).startswith("1 problem, ")


# --- failed calls -------------------------------------------------------------------------------------


def test_what_the_response_does_not_say_is_the_tables():
    rule = SERVICE_CODES["23500003"]
    error = CallError(Operation.QUERY, rule)
    assert (error.code, error.message, error.kind, error.then) == (
        *(rule.code, rule.meaning, rule.kind_on(Operation.QUERY), rule.then(Operation.QUERY)),
    )
    assert (error.http_status, error.retry_after, error.result_key, error.is_from_gateway) == (
        *(None, None, "", False),
    )
    received = CallError(Operation.QUERY, rule, code="X1", message=" out of\ncredit ")
    assert (received.code, received.message) == ("X1", "out of credit")


def test_a_blank_message_is_none():
    assert CallError(Operation.QUERY, LOST, message=" \n\x00").message == LOST.meaning


@pytest.mark.parametrize("operation", Operation)
def test_kind_and_retry_depend_on_the_operation(operation):
    error = CallError(operation, LOST)
    is_submit = operation is Operation.SUBMIT
    assert error.kind is (ErrorKind.UNKNOWN_OUTCOME if is_submit else ErrorKind.SERVICE)
    assert error.then is (RetryDecision.UNKNOWN if is_submit else RetryDecision.SEND_AGAIN)
    assert CallError(operation, NOT_CONNECTED).then is RetryDecision.SEND_AGAIN


def test_a_secret_is_replaced_wherever_a_response_repeats_it():
    error = CallError(
        Operation.QUERY,
        by_status(400),
        code=SECRET,
        message=f"bad {SECRET}, yes, {SECRET}",
        request_id=f"r-{SECRET}",
        gateway_request_id=f"g-{SECRET}",
    )
    error.redact(SECRET)
    assert (error.code, error.message) == ("***", "bad ***, yes, ***")
    assert (error.request_id, error.gateway_request_id) == ("r-***", "g-***")
    assert "canary" not in f"{error} {error!r}"


def test_a_secret_is_replaced_in_upper_case_too():
    assert without_secret(f"bad {SECRET.upper()}", SECRET) == "bad ***"
    assert without_secret(f"bad {SECRET.upper()[:6]}…", SECRET) == "bad ***…"


@pytest.mark.parametrize("shown", range(1, len(SECRET)))
def test_a_secret_that_a_cut_message_begins_is_replaced_too(shown):
    before = "x" * (MAX_MESSAGE - 1 - shown)
    error = CallError(Operation.QUERY, by_status(400), message=f"{before}{SECRET} and more")
    error.redact(SECRET)
    # Less than four characters are not recognized, and of no use.
    assert error.message == (f"{before}***…" if shown > 3 else f"{before}{SECRET[:shown]}…")


@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize(
    "rule", [*SERVICE_CODES.values(), *GATEWAY_CODES.values()], ids=lambda rule: rule.code
)
def test_an_error_is_rebuilt_from_its_code(operation, rule):
    error = CallError.rebuilt(operation, code=rule.code, http_status=rule.http_status, request_id="r")
    assert (error.rule, error.code, error.request_id) == (rule, rule.code, "r")


@pytest.mark.parametrize(
    ("code", "http_status", "rule"),
    [("", None, NO_ANSWER), ("", 502, by_status(502)), ("", 429, by_status(429))],
)
def test_an_error_without_a_code_is_rebuilt_from_its_status(code, http_status, rule):
    assert CallError.rebuilt(Operation.QUERY, code=code, http_status=http_status).rule == rule


def test_an_unknown_code_is_kept():
    error = CallError.rebuilt(Operation.QUERY, code="T429ZZ", http_status=429)
    assert (error.code, error.kind) == ("T429ZZ", ErrorKind.THROTTLED)
