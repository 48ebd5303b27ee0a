# SPDX-License-Identifier: Apache-2.0
"""What tells one image's URL from another's: a normal form without signatures (F1 to F4)."""

from __future__ import annotations

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
    strip_signature,
)
from airflow_provider_bgrep.protocol.validation import validate_tasks

MD5, SHA256 = "0123456789abcdef" * 2, "0123456789abcdef" * 4
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJ1cmwiOiJhLmpwZyJ9.c2lnbmF0dXJl"
DIGEST = "JLvRTZBmgyzRQJSrUIOXO0nW5b_ZGnXCCQmBCZVgWOo"


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


@MANY
@given(_spellings())
def test_generated_spellings_of_a_url_are_one_image(found):
    """F1, F2: case, percent-encoding, default port, dot segments, fragment and credentials."""
    one, two, other = found
    assert canonical_url(one) == canonical_url(two)
    assert canonical_url(one) != canonical_url(other)


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


# --- F3: what chooses the image ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("t=front&sign=x", "t=back&sign=x"),
        ("t=1&sign=x", "t=2&sign=x"),
        ("sign=aries", "sign=taurus"),
        ("signature=gold", "signature=silver"),
        ("sig=a", "sig=b"),
        ("token=front", "token=back"),
        ("e=1&token=front", "e=2&token=front"),
        ("expires=never&token=front", "expires=never&token=back"),
        (
            "expires=1700000000&token=mug-front-view-of-shop",
            "expires=1700000000&token=mug-back-view-of-the-shop",
        ),
        ("policy=a&signature=b", "policy=c&signature=b"),
        ("s=large", "s=small"),
        (f"s={MD5}", f"s={MD5[::-1]}"),
        ("ex=1&is=2&hm=3", "ex=2&is=2&hm=3"),
        ("oh=a&oe=b", "oh=c&oe=b"),
        ("st=front", "st=back"),
        ("md5=front&expires=1", "md5=back&expires=1"),
        ("v=1&t=a&e=b", "v=2&t=a&e=b"),
        ("authorization=a", "authorization=b"),
        ("x-oss-process=image/resize,w_1", "x-oss-process=image/resize,w_2"),
        ("x-tos-process=image/resize,w_1", "x-tos-process=image/resize,w_2"),
        (f"token={JWT}", "token=eyJ.b.c"),
        ("exp=front&sig=a", "exp=back&sig=a"),
        ("verify=front", "verify=back"),
        ("ixlib=a", "ixlib=b"),
        ("id=1&Expires=1700000000&Signature=a", "id=2&Expires=1700000000&Signature=a"),
    ],
)
def test_a_generic_name_alone_is_no_signature(one, other):
    assert canonical_url(f"https://a.b/x?{one}") != canonical_url(f"https://a.b/x?{other}")


# --- F4: signed in each run -----------------------------------------------------------------------------

SIGNED = {
    "Discord": (
        "https://cdn.discordapp.com/attachments/1/2/mug.png?ex=65c1a{n}b2&is=65b0a{n}b2&hm="
        + SHA256[:-1]
        + "{n}&",
        "https://cdn.discordapp.com/attachments/1/2/mug.png",
    ),
    "Discord, resized": (
        "https://media.discordapp.net/attachments/1/2/mug.png?ex=65c1a{n}b2&is=65b0a{n}b2&hm="
        + SHA256[:-1]
        + "{n}&=&format=webp&width=800",
        "https://media.discordapp.net/attachments/1/2/mug.png?=&format=webp&width=800",
    ),
    "Supabase": (
        "https://abc.supabase.co/storage/v1/object/sign/shop/mug.png?token=" + JWT + "{n}",
        "https://abc.supabase.co/storage/v1/object/sign/shop/mug.png",
    ),
    "Supabase, rendered by one's own server": (
        "https://db.shop.example/storage/v1/render/image/sign/shop/mug.png?token=" + JWT + "{n}&width=800",
        "https://db.shop.example/storage/v1/render/image/sign/shop/mug.png?width=800",
    ),
    "Bunny": (
        "https://shop.b-cdn.net/mug.jpg?token=" + DIGEST[:-1] + "{n}&expires=170000000{n}&width=800",
        "https://shop.b-cdn.net/mug.jpg?width=800",
    ),
    "Bunny, a folder": (
        "https://shop.b-cdn.net/mug.jpg?token="
        + DIGEST[:-1]
        + "{n}&token_path=%2Fshop%2F&token_countries=DE&expires=170000000{n}",
        "https://shop.b-cdn.net/mug.jpg",
    ),
    "Bunny, in the path": (
        "https://shop.b-cdn.net/bcdn_token="
        + DIGEST[:-1]
        + "{n}&expires=170000000{n}&token_path=%2Fa%2F/a/mug.jpg",
        "https://shop.b-cdn.net/a/mug.jpg",
    ),
    "imgix": (
        "https://shop.imgix.net/mug.jpg?w=800&ixlib=python-4.{n}&s=" + MD5[:-1] + "{n}",
        "https://shop.imgix.net/mug.jpg?w=800",
    ),
    "imgix, expiring, on one's own domain": (
        "https://img.shop.example/mug.jpg?w=800&expires=170000000{n}&s=" + MD5[:-1] + "{n}",
        "https://img.shop.example/mug.jpg?w=800",
    ),
    "Facebook": (
        (
            "https://scontent-lhr{n}-1.xx.fbcdn.net/v/t39.30808-6/1_2_3_n.jpg?stp=dst-jpg&_nc_cat={n}&ccb=1-{n}"
            "&_nc_sid=a{n}&_nc_ohc=b{n}&_nc_ht=scontent-lhr{n}&oh=00_AfBdabcdefghijklmnop{n}&oe=65C4A{n}B2"
        ),
        "https://scontent.fbcdn.net/v/t39.30808-6/1_2_3_n.jpg?stp=dst-jpg",
    ),
    "Instagram": (
        (
            "https://scontent-fra{n}-1.cdninstagram.com/v/t51/1_n.jpg?_nc_ht=scontent&_nc_cat={n}&edm=A{n}&ccb=7-5"
            "&oh=00_AfBdabcdefghijklmnop{n}&oe=65C4A{n}B2&_nc_sid={n}"
        ),
        "https://scontent.cdninstagram.com/v/t51/1_n.jpg",
    ),
    "Airtable, shown in a browser": (
        "https://dl.airtable.com/.attachments/ab/cd/mug.png?ts=170000000{n}&userId=usr1&cs=0123456789abcde{n}",
        "https://dl.airtable.com/.attachments/ab/cd/mug.png",
    ),
    "Unsplash": (
        "https://images.unsplash.com/photo-1?w=800&ixid=M3w{n}&ixlib=rb-4.{n}",
        "https://images.unsplash.com/photo-1?w=800",
    ),
    "Laravel": ("https://a.b/mug?expires=170000000{n}&signature=" + SHA256[:-1] + "{n}", "https://a.b/mug"),
    "nginx": ("https://a.b/mug?md5=_e4Nc3iduzkWRm01TBBNY{n}&expires=170000000{n}", "https://a.b/mug"),
    "Cloudflare": ("https://a.b/mug?verify=170000000{n}-a1B2c3%2Bd{n}%3D", "https://a.b/mug"),
    "Uploadcare": (
        "https://ucarecdn.com/1/?token=exp=170000000{n}~acl=/1/~hmac=ab{n}",
        "https://ucarecdn.com/1/",
    ),
    "ImageKit": (
        "https://ik.imagekit.io/a/mug.jpg?ik-s=ab{n}&ik-t=170000000{n}",
        "https://ik.imagekit.io/a/mug.jpg",
    ),
    "Alibaba Cloud CDN": ("https://a.b/mug?auth_key=170000000{n}-0-0-" + MD5[:-1] + "{n}", "https://a.b/mug"),
    "Tencent Cloud CDN, type A": (
        "https://a.b/mug?sign=170000000{n}-x-0-" + MD5[:-1] + "{n}",
        "https://a.b/mug",
    ),
    "Tencent Cloud CDN, type D": ("https://a.b/mug?sign=" + MD5[:-1] + "{n}&t=65c1a{n}b2", "https://a.b/mug"),
    "Google's CDN": ("https://a.b/mug?Expires=170000000{n}&KeyName=k&Signature=ab{n}%3D", "https://a.b/mug"),
    "Dropbox": (
        "https://www.dropbox.com/scl/fi/1/m.jpg?rlkey=a&st=b{n}&dl=1",
        "https://www.dropbox.com/scl/fi/1/m.jpg?dl=1",
    ),
}


@pytest.mark.parametrize(("url", "expected"), SIGNED.values(), ids=SIGNED)
def test_a_url_that_is_signed_each_time_is_one_image(url, expected):
    first, second = (url.replace("{n}", str(n)) for n in (1, 2))
    assert first != second
    assert canonical_url(first) == canonical_url(second) == expected
    assert urlsplit(strip_signature(first)).path == urlsplit(expected).path


def test_parameters_that_an_option_names_are_left_out():
    url = "https://a.b/mug.jpg?size=2&Sess=1&%73ess=2&sess2=3"
    assert canonical_url(url, ["sess"]) == "https://a.b/mug.jpg?size=2&sess2=3"
    assert canonical_url("https://a.b/mug.jpg?sess=1", ["sess"]) == "https://a.b/mug.jpg"
