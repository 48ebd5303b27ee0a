# SPDX-License-Identifier: Apache-2.0
"""What tells one image's URL from another's: a normal form (F1, F2)."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_bgrep.protocol.identity import fingerprint, url_digest
from airflow_provider_bgrep.protocol.models import ImageTask
from airflow_provider_bgrep.protocol.urls import (
    CANONICAL_URL,
    ascii_url,
    canonical_url,
    redact_text,
    redacted_beginning,
)
from airflow_provider_bgrep.protocol.validation import validate_tasks

# --- F1: RFC 3986 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://a.b/%e6%8b%a1.jpg", "https://a.b/%E6%8B%A1.jpg"),
        ("https://a.b/~shop/x.jpg", "https://a.b/%7Eshop/x.jpg"),
        ("https://a.b/~shop/x.jpg", "https://a.b/%7eshop/x.jpg"),
        ("https://a.b/%61.jpg?%62=c", "https://a.b/a.jpg?b=c"),
        ("https://a.b/ä.jpg", "https://a.b/%C3%A4.jpg"),
        ("https://a.b/a.jpg?q=ü", "https://a.b/a.jpg?q=%c3%bc"),
        ("HTTPS://A.B:443/a.jpg", "https://a.b/a.jpg"),
        ("http://a.b:80", "http://a.b/"),
        ("https://a.b./a.jpg", "https://a.b/a.jpg"),
        ("https://a.b/x/../a.jpg", "https://a.b/a.jpg"),
        ("https://a.b/./a.jpg", "https://a.b/a.jpg"),
        ("https://a.b/%2E%2E/a.jpg", "https://a.b/a.jpg"),
        ("https://a.b/a.jpg#top", "https://a.b/a.jpg"),
        ("https://a.b/a.jpg?", "https://a.b/a.jpg"),
        ("https://a.b/a|b.jpg", "https://a.b/a%7Cb.jpg"),
        ("https://user:secret@a.b/a.jpg", "https://user:other@a.b/a.jpg"),
    ],
)
def test_two_ways_to_write_a_url_are_one_image(one, other):
    assert canonical_url(one) == canonical_url(other)
    assert url_digest(one) == url_digest(other)
    prints = [fingerprint([ImageTask(image=url, positive_prompt="x")]) for url in (one, other)]
    assert prints[0] == prints[1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://a.b/A.jpg", "https://a.b/a.jpg"),
        ("https://a.b/a%2Fb.jpg", "https://a.b/a/b.jpg"),
        ("https://a.b/a//b.jpg", "https://a.b/a/b.jpg"),
        ("https://a.b/a.jpg?x=1&y=2", "https://a.b/a.jpg?y=2&x=1"),
        ("https://a.b/a.jpg?v=1", "https://a.b/a.jpg?v=2"),
        ("https://a.b:8443/a.jpg", "https://a.b/a.jpg"),
        ("https://a.b/a.jpg", "http://a.b/a.jpg"),
        ("https://a.b/a/", "https://a.b/a"),
        ("https://a.b/a%20b", "https://a.b/a+b"),
    ],
)
def test_what_may_be_another_image_stays_apart(one, other):
    assert canonical_url(one) != canonical_url(other)


_SEGMENTS = st.text("aZ09-._~%2fEe/:@!$&'()*+,;=|ä品", max_size=12)


@given(_SEGMENTS, _SEGMENTS)
@example("../..", "a=b")
@example("%", "%")
def test_the_form_is_final_and_the_short_cut_agrees(path, query):
    url = f"https://shop.example/{path}" + (f"?{query}" if query else "")
    found = canonical_url(url)
    assert canonical_url(found) == found
    assert found.isascii()
    if CANONICAL_URL.fullmatch(url):
        assert found == url


UNRESERVED = "abcXYZ019-._~"
MANY = settings(
    deadline=None, max_examples=5_000 if settings.get_current_profile_name() == "thorough" else 100
)


@st.composite
def _spellings(draw: st.DrawFn) -> tuple[str, str, str]:
    """Two ways to write a URL, and a URL of another image."""
    segments = st.text(UNRESERVED + "ä品", min_size=1, max_size=6).filter(lambda one: one.strip("."))
    path = draw(st.lists(segments, min_size=1, max_size=3))
    query = draw(st.text(UNRESERVED + "&=/?", max_size=8))
    host = draw(st.sampled_from(["shop.example", "bücher.example", "品.example", "a-b.shop.example"]))

    def spelled() -> str:
        def encoded(character: str) -> str:
            how = draw(st.sampled_from("plain upper lower".split()))
            if how == "plain" or character in "&=/?":
                return character
            text = "".join(f"%{byte:02X}" for byte in character.encode())
            return text if how == "upper" else text.lower()

        parts = ["".join(map(encoded, segment)) for segment in path]
        if draw(st.booleans()):
            parts.insert(draw(st.integers(0, len(parts) - 1)), draw(st.sampled_from([".", "x/..", "%2e"])))
        scheme = draw(st.sampled_from(["https", "HTTPS", "Https"]))
        name = draw(st.sampled_from([str.lower, str.upper]))(host) + draw(st.sampled_from(["", ":443", "."]))
        user = draw(st.sampled_from(["", "user:secret@"]))
        asked = f"?{''.join(map(encoded, query))}" if query else draw(st.sampled_from(["", "?"]))
        return f"{scheme}://{user}{name}/{'/'.join(parts)}{asked}{draw(st.sampled_from(['', '#top']))}"

    other = f"https://{host}/{'/'.join([*path, 'other'])}" + (f"?{query}" if query else "")
    return spelled(), spelled(), other


@pytest.mark.slow
@MANY
@given(_spellings())
def test_generated_spellings_of_a_url_are_one_image(found):
    """F1, F2: case, percent-encoding, default port, dot segments, fragment and credentials."""
    one, two, other = found
    assert canonical_url(one) == canonical_url(two)
    assert canonical_url(one) != canonical_url(other)


_SIGNED = "Signature=canary"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        # What follows a comma, a bracket or a quote belongs to the query.
        (f"https://h/p?x-oss-process=image/resize,w_800&{_SIGNED}", "https://h/p?…"),
        (f"https://h/p?a=(1)&{_SIGNED}", "https://h/p?…"),
        (f"https://h/p?a=1;{_SIGNED}", "https://h/p?…"),
        (f"https://h/p?a='x'&b=\"y\"&c=<z>&{_SIGNED}, yes", "https://h/p?…, yes"),
        (f"(https://h/p?{_SIGNED}).", "(https://h/p?…)."),
        ("https://h/p?canary", "https://h/p?…"),
        # Escaped, and encoded once or twice.
        (rf"{{\"url\":\"https:\/\/h\/p?{_SIGNED}\"}}", r"{\"url\":\"https:\/\/h\/p?…\"}"),
        ("u=https%3A%2F%2Fh%2Fp%3FSignature%3Dcanary", "u=https%3A%2F%2Fh%2Fp?…"),
        ("https%253A%252F%252Fh%252Fp%253Fcanary done", "https%253A%252F%252Fh%252Fp?… done"),
        (r"/p?a\u003d1\u0026Signature\u003dcanary", "/p?…"),
        # Without a scheme, without a host, or broken up where it was decoded.
        (f"//h/p?{_SIGNED}", "//h/p?…"),
        (f"url: /p?{_SIGNED}", "url: /p?…"),
        (f"%2Fp%3Fa%3D1%26{_SIGNED}", "%2Fp?…"),
        (f"https://h/p?text=a b&{_SIGNED}", "https://h/p?… b?…"),
        (f"https://h/p?text=a b&amp;{_SIGNED}", "https://h/p?… b?…"),
        # Credentials.
        ("https://u:canary@h/p", "https://***@h/p"),
        ("//u:canary@h/p", "//***@h/p"),
        (r"https:\/\/u:canary@h\/p", r"https:\/\/***@h\/p"),
        ("https%3A%2F%2Fu%3Acanary%40h%2Fp", "https%3A%2F%2F***@h%2Fp"),
        ("https:u:canary@h/p", "https:***@h/p"),
        ("https:/u:canary@h/p", "https:/***@h/p"),
        # A password may have a slash; no host has a colon, except before a port.
        ("s3://KEY:cana/ry@shop/a.png", "s3://***@shop/a.png"),
        ("'https://u:ca/na/ry@h/p', 's3://KEY:can/ary@b/c'", "'https://***@h/p', 's3://***@b/c'"),
        ("s3://KEY:can/ary@b/c,s3://KEY:can/ary@d/e", "s3://***@b/c,s3://***@d/e"),
        (r"s3:\/\/KEY:cana\/ry@shop\/a", r"s3:\/\/***@shop\/a"),
        ("s3%3A%2F%2FKEY%3Acana%2Fry%40shop%2Fa", "s3%3A%2F%2F***@shop%2Fa"),
        ("https://h:8080/a@2x.png", "https://h:8080/a@2x.png"),
        ("https://[::1]:80/a@2x.png", "https://[::1]:80/a@2x.png"),
        ("https%3A%2F%2Fh%3A80%2Fa@2x.png", "https%3A%2F%2Fh%3A80%2Fa@2x.png"),
        # A signature in the path, up to the next slash.
        ("https://h/bcdn_token=canary&expires=1&token_path=%2Fin%2F/in/p", "https://h/bcdn_token=…/in/p"),
        ("(https://h/a/bcdn_token=canary/in/p?canary).", "(https://h/a/bcdn_token=…/in/p?…)."),
        (r"https:\/\/h\/bcdn_token=canary\u0026expires=1\/in", r"https:\/\/h\/bcdn_token=…\/in"),
        ("https%3A%2F%2Fh%2Fbcdn_token%3Dcanary%26e%3D1%2Fin", "https%3A%2F%2Fh%2Fbcdn_token%3D…%2Fin"),
        ("%252Fbcdn_token%253Dcanary%252Fin?x", "%252Fbcdn_token%253D…%252Fin?…"),
        ("https://h/BCDN_token=canary", "https://h/BCDN_token=…"),
        ("'bcdn_token=canary&expires=1/in'", "'bcdn_token=…"),
        # Other text stays.
        ("Why? me@x.y & you: 100% (a=b)", "Why? me@x.y & you: 100% (a=b)"),
        ("https://h/a@2x.png", "https://h/a@2x.png"),
    ],
)
def test_a_quoted_url_shows_no_secret_in_any_form(text, shown):
    assert redact_text(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("short", "short"),
        ("a longer text", "a longer…"),
        ("https://user:canary@h", "https://…"),
        ("a https://user:canary@h", "a https:…"),
        ("//u:canary@h", "//***@h"),
    ],
)
def test_a_text_is_redacted_before_it_is_cut(text, shown):
    assert redacted_beginning(text, 8) == shown


@pytest.mark.parametrize(
    "unit",
    [
        *("a://", "https://h?,", "a:", "a:@/", "&a", "%2525", ",", "?a", "@", "//", "//k:s/", "//k:s/@"),
        *("/bcdn_token=", "%2Fbcdn_token=", "bcdn_token=", "/bcdn_token=%2F"),
    ],
)
def test_no_text_takes_long_to_redact(unit):
    began = time.process_time()
    redact_text(unit * 10_000)
    assert time.process_time() - began < 2


@MANY
@given(st.text() | st.text("htps:/.@[]%?#&=x1é\u200b\ud800 ").map("https://".__add__))
def test_no_text_raises_an_exception(text):
    canonical_url(text)


# --- F2: IDNA 2008 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("straße.example", "xn--strae-oqa.example"),
        ("faß.de", "xn--fa-hia.de"),
        ("STRASSE.example", "strasse.example"),
        ("βόλος.com", "xn--nxasmm1c.com"),
        ("bücher.example:8080", "xn--bcher-kva.example:8080"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("例子。中国", "xn--fsqu00a.xn--fiqs8s"),
        ("my_shop.bücher.example", "my_shop.xn--bcher-kva.example"),
        ("ｓｈｏｐ.example", "shop.example"),
    ],
)
def test_hosts_are_those_of_idna_2008(host, expected):
    (task,) = validate_tasks([{"image": f"https://{host}/a.jpg", "positive_prompt": "x"}])
    assert urlsplit(task.image).netloc.lower() == expected
    assert canonical_url(f"https://{host}/a.jpg") == f"https://{expected}/a.jpg"
    assert canonical_url(task.image) == canonical_url(f"https://{host}/a.jpg")


def test_the_german_letter_is_not_two_other_letters():
    assert canonical_url("https://straße.example/a.jpg") != canonical_url("https://strasse.example/a.jpg")


@pytest.mark.parametrize("host", ["例..中国", ".例.中国", f"{'雪' * 70}.cn", "☃️.example", "a\u200d例.cn"])
def test_what_is_no_host_name_is_refused(host):
    with pytest.raises(UnicodeError):
        ascii_url(f"https://{host}/a.jpg")


# --- parameters that the user names ---------------------------------------------------------------------


def test_parameters_that_an_option_names_are_left_out():
    url = "https://a.b/mug.jpg?size=2&Sess=1&%73ess=2&sess2=3"
    assert canonical_url(url, ["sess"]) == "https://a.b/mug.jpg?size=2&sess2=3"
    assert canonical_url("https://a.b/mug.jpg?sess=1", ["sess"]) == "https://a.b/mug.jpg"
