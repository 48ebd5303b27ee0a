# SPDX-License-Identifier: Apache-2.0
"""The tables of codes against the spec, written down here a second time from the spec's own text."""

from __future__ import annotations

import itertools

import pytest

from airflow_provider_bgrep.protocol.codes import (
    GATEWAY_CODES,
    GATEWAY_TEXTS,
    SERVICE_CODES,
    ErrorCode,
    ErrorKind,
    Operation,
    RetryDecision,
    by_status,
    gateway_rule,
)

SUBMIT, QUERY = Operation.SUBMIT, Operation.QUERY

# What a class of the spec lets a client do: kind, on a submit, on a query.
CLASSES = {
    "credentials": ("auth", "final", "final"),
    "configuration": ("configuration", "final", "final"),
    "money": ("quota", "final", "final"),
    "throttled": ("throttled", "back_off", "back_off"),
    "request": ("request", "final", "final"),
    "content": ("content", "final", "final"),
    "no job": ("job_not_found", "final", "final"),
    "failed": ("job_failed", "final", "final"),
    "not reached": ("service", "send_again", "send_again"),
    "unknown outcome": ("service", "unknown", "send_again"),
    "redirected": ("configuration", "unknown", "final"),
}

# HTTP status, code, message, class; the document's table in its order.
DOCUMENT = """
500 23500000 unknown outcome | Internal server error
401 23500001 credentials     | Authorization required to perform current operation
404 23500002 configuration   | Specified service does not exist
403 23500003 money           | User credit points are exhausted
403 23500004 throttled       | Request was denied due to request throttling
403 23500005 content         | The image did not pass the content compliance check
400 23500006 content         | The image url provided is invalid or non-accessible
400 23500007 content         | The uploaded image does not meet the requirements
400 23500008 no job          | No records found related to the specified resultKey parameter
400 23500009 request         | Required parameters cannot be empty
500 23500011 failed          | Job execution failed
400 23500012 request         | Required request body is missing
400 23500013 request         | Illegal input parameter found
400 23500014 configuration   | Illegal service name
"""

GATEWAY = {
    "credentials": "A400AC A401AC A400MA A400IK A403IS A403EP A403PR A401OT I403AA",
    "configuration": """
        A403IP A403VN A403AC A403CO A403IN B451DO B451GO
        S403TE
        I400NC I403PT I404DO I404NF I404NR I404SR I405UM I410GG
        X400PM X403DG X500ED X500AM A403FC
    """,
    "money": "B403MQ B403ME B403MI B403MO B403OD",
    "throttled": "T429ID T429IN T429GR T429PA T429PR T429SR T429MR T429UR",
    "request": "I400HD I400MH I400BD I400PA I400RU I400CT I400SG I400MP I400IP I400JP I413RL I413UL",
    "not reached": "D504CO D504RE D504IL D504CS X503BZ D503BB D503CB",
    "unknown outcome": "S403NU D504TO X504TO X504VE D502FC N502RE X500ER",
}

TEXTS = {
    "throttled": [f"Throttled by {who} Flow Control" for who in "USER APP API DOMAIN GROUP".split()],
    "money": ["Quota Exhausted", "Quota Expired", "User Arrears", "Expiry of Authorization"],
    "credentials": ["Unauthorized", "Invalid AppCode"],
    "unknown outcome": [
        "Nonce Used",
        "Internal Error",
        "Failed To Invoke Backend Service",
        "Async Service",
    ],
    "not reached": ["Service Unavailable"],
}
TEXT_STATUS = {
    "Invalid AppCode": 400,
    "Internal Error": 500,
    "Failed To Invoke Backend Service": 500,
    "Async Service": 504,
    "Service Unavailable": 503,
}

SERVICE_ROWS = [
    (int(left.split()[0]), left.split()[1], " ".join(left.split()[2:]), message.strip())
    for left, message in (line.split("|") for line in DOCUMENT.strip().splitlines())
]
GATEWAY_ROWS = [(code, name) for name, codes in GATEWAY.items() for code in codes.split()]
TEXT_ROWS = [(text, name) for name, texts in TEXTS.items() for text in texts]


def policy(rule: ErrorCode) -> tuple[str, str, str]:
    return rule.kind.value, rule.then(SUBMIT).value, rule.then(QUERY).value


@pytest.mark.parametrize(("http_status", "code", "name", "message"), SERVICE_ROWS)
def test_a_service_code_is_what_the_document_says(http_status, code, name, message):
    rule = SERVICE_CODES[code]
    assert (rule.code, rule.http_status, rule.meaning) == (code, http_status, message)
    assert policy(rule) == CLASSES[name]
    assert rule.source == "document"


@pytest.mark.parametrize(("code", "name"), GATEWAY_ROWS)
def test_a_gateway_code_has_the_specs_class_and_its_own_status(code, name):
    rule = GATEWAY_CODES[code]
    assert policy(rule) == CLASSES[name]
    assert rule.http_status == int(code[1:4])


@pytest.mark.parametrize(("text", "name"), TEXT_ROWS)
def test_a_gateway_text_is_found_in_any_case_and_in_a_sentence(text, name):
    status = TEXT_STATUS.get(text, 403)
    for said in (text, text.lower(), text.upper(), f"Sorry: {text} (12 of 10)"):
        for code in ("", str(status)):
            rule = gateway_rule(code, said, status)
            assert rule.code == text
            assert policy(rule) == CLASSES[name]
    assert gateway_rule(text, "", status).code == text


def test_the_tables_hold_each_code_once_and_no_other():
    assert sorted(SERVICE_CODES) == sorted(code for _, code, _, _ in SERVICE_ROWS)
    assert sorted(GATEWAY_CODES) == sorted(code for code, _ in GATEWAY_ROWS)
    assert sorted(rule.code for rule in GATEWAY_TEXTS) == sorted(text for text, _ in TEXT_ROWS)
    # A dict holds a key once even where the source names it twice: so count what it was made of.
    codes = [code for code, _ in GATEWAY_ROWS]
    assert len(codes) == len(set(codes)) == len(GATEWAY_CODES)
    for code, rule in itertools.chain(SERVICE_CODES.items(), GATEWAY_CODES.items()):
        assert rule.code == code


def test_the_codes_that_the_spec_knows_from_memory_say_so():
    memory = {code for code, rule in GATEWAY_CODES.items() if rule.source == "gateway (from memory)"}
    assert memory == {"T429UR", "S403NU", "S403TE"}


def test_only_the_breaker_has_a_wait_of_its_own():
    assert {code: rule.wait for code, rule in GATEWAY_CODES.items() if rule.wait} == {"D503CB": 90.0}
    assert not any(rule.wait for rule in (*SERVICE_CODES.values(), *GATEWAY_TEXTS))


def test_every_rule_holds_together():
    statuses = (100, 200, 204, 301, 400, 401, 403, 404, 408, 409, 429, 499, 500, 502, 503, 504, 599)
    rules = [*SERVICE_CODES.values(), *GATEWAY_CODES.values(), *GATEWAY_TEXTS, *map(by_status, statuses)]
    for rule in rules:
        # A query has no unknown outcome, and unknown is all that a submit's kind hides.
        assert rule.query is not RetryDecision.UNKNOWN, rule
        assert rule.kind is not ErrorKind.UNKNOWN_OUTCOME, rule
        assert (rule.kind_on(SUBMIT) is ErrorKind.UNKNOWN_OUTCOME) == (
            rule.submit is RetryDecision.UNKNOWN
        ), rule
        assert rule.kind_on(QUERY) is rule.kind, rule
        # What is final for one operation is not tried again on the other.
        if rule.submit is RetryDecision.FINAL:
            assert rule.query is RetryDecision.FINAL, rule
        if rule.query is RetryDecision.FINAL:
            assert rule.submit in (RetryDecision.FINAL, RetryDecision.UNKNOWN), rule
        assert rule.meaning, rule
        assert rule.remedy.endswith("."), rule


# --- codes that no table has ----------------------------------------------------------------------


# A server that answers so has not passed the request on.
REFUSALS = {400, 402, 403, 404, 405, 407, 410, 411, 413, 414, 415, 417, 421, 422, 426, 428, 431, 451}


def class_of(status: int) -> str:
    if status == 429:
        return "throttled"
    if status == 401:
        return "credentials"
    if 300 <= status < 400:
        return "redirected"
    return "request" if status in REFUSALS else "unknown outcome"


def test_a_code_in_neither_list_is_classed_by_its_status():
    for status in range(200, 600):
        expected = CLASSES[class_of(status)]
        assert policy(by_status(status)) == expected, status
        for code in ("", "23500010", "99999999", "weird"):
            assert policy(gateway_rule(code, "", status)) == expected, (code, status)


@pytest.mark.parametrize(
    ("code", "http_status", "name"),
    [
        ("Z403QQ", 403, "request"),
        ("Z403QQ", 200, "request"),
        ("Z401QQ", 403, "credentials"),
        ("Z429QQ", 403, "throttled"),
        ("Z503QQ", 403, "unknown outcome"),
        ("Z503QQ", 503, "unknown outcome"),
        ("Z200QQ", 403, "request"),
        ("Z999QQ", 503, "unknown outcome"),
        # Where code and status disagree, the one that leaves the outcome open counts.
        ("Z403QQ", 504, "unknown outcome"),
        ("Z429QQ", 500, "unknown outcome"),
        ("Z403QQ", 408, "unknown outcome"),
        ("Z408QQ", 403, "unknown outcome"),
        ("Z403QQ", 302, "redirected"),
        # These only look like the gateway's.
        ("150300", 403, "request"),
        ("A²²²XX", 403, "request"),
        ("A٤٠٣XX", 403, "request"),
        ("A403XXX", 429, "throttled"),
    ],
)
def test_an_unknown_code_of_six_characters_contains_its_status(code, http_status, name):
    assert policy(gateway_rule(code, "", http_status)) == CLASSES[name]


def test_a_known_code_outranks_the_text_beside_it_and_the_status():
    assert gateway_rule("D504TO", "Service Unavailable", 503).code == "D504TO"
    assert gateway_rule("B403MQ", "Throttled by USER Flow Control", 500).code == "B403MQ"


def test_a_code_in_lower_case_is_the_same_code():
    assert gateway_rule("s403nu", "", 403) is GATEWAY_CODES["S403NU"]


@pytest.mark.parametrize("status", [500, 502, 504, 403, 200])
def test_service_unavailable_is_retried_only_with_a_503(status):
    assert gateway_rule("", "Service Unavailable", status).submit is not RetryDecision.SEND_AGAIN


def test_no_text_makes_a_plain_refusal_of_an_open_outcome():
    for (text, _), status in itertools.product(TEXT_ROWS, (302, 408, 409, 499, 500, 502, 503, 504)):
        if (text, status) != ("Service Unavailable", 503):
            assert gateway_rule("", text, status).submit is RetryDecision.UNKNOWN, (text, status)


def test_of_two_texts_the_one_with_unknown_outcome_counts():
    rule = gateway_rule("", "Failed To Invoke Backend Service: Service Unavailable", 503)
    assert rule.submit is RetryDecision.UNKNOWN
