# SPDX-License-Identifier: Apache-2.0
"""What signs a URL is recognized in its documented form, and nothing else is taken for it."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from airflow_provider_bgrep.protocol.identity import fingerprint
from airflow_provider_bgrep.protocol.models import ImageTask
from airflow_provider_bgrep.protocol.signatures import stable_host, without_parameters, without_signature
from airflow_provider_bgrep.protocol.urls import canonical_url, strip_signature

MD5, SHA256 = "0123456789abcdef" * 2, "0123456789abcdef" * 4
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJ1cmwiOiJhLmpwZyJ9.c2lnbmF0dXJl"
DIGEST = "JLvRTZBmgyzRQJSrUIOXO0nW5b_ZGnXCCQmBCZVgWOo"
IMAGE = "https://shop.oss-cn-hangzhou.aliyuncs.com/lamp.png"
TASK = ImageTask(image=IMAGE, positive_prompt="sea")


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("", ""),
        ("&", ""),
        ("a=1&&b", "a=1&b"),
        ("Expires=1&OSSAccessKeyId=k&Signature=s&a=1", "a=1"),
        ("EXPIRES=1&ossaccesskeyid=k&SIGNATURE=s", ""),
        ("%45xpires=1&Signature=s", "%45xpires=1&Signature=s"),
        ("X-Amz-Signature=s&x-amz-anything=1&x-tos-process=p", "x-tos-process=p"),
        ("Expires=soon&Signature=s", "Expires=soon&Signature=s"),
        # Every value of a name must have the form.
        ("auth_key=a&Expires=1&Expires=x&Signature=s", "Expires=1&Expires=x&Signature=s"),
    ],
)
def test_a_query_is_returned_without_its_signature(query, kept):
    assert without_signature("a.b", "/x.png", query) == ("/x.png", kept)


def test_parameters_are_dropped_by_name_whatever_their_case():
    assert without_parameters("a=1&B=2&%62=3&c", ["b", "C"]) == "a=1"
    assert without_parameters("", ["b"]) == ""
    assert without_parameters("a=1&b=2", []) == "a=1&b=2"


@pytest.mark.parametrize(
    ("host", "stable"),
    [
        ("scontent-lhr8-1.xx.fbcdn.net", "scontent.fbcdn.net"),
        ("scontent.cdninstagram.com", "scontent.cdninstagram.com"),
        ("scontent.fbcdn.net.shop.example", "scontent.fbcdn.net.shop.example"),
        ("static.fbcdn.net", "static.fbcdn.net"),
    ],
)
def test_only_hosts_of_the_same_images_get_one_name(host, stable):
    assert stable_host(host) == stable


SIGNED_AGAIN = {
    "oss v1": "Expires={n}&OSSAccessKeyId=STS.{n}&Signature=s{n}%3D&security-token=t{n}",
    "oss v4": (
        "x-oss-date={n}&x-oss-expires=3600&x-oss-signature-version=OSS4-HMAC-SHA256"
        "&x-oss-credential=c{n}&x-oss-security-token=t{n}&x-oss-signature=s{n}"
    ),
    "aws v4": (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=c{n}&X-Amz-Date={n}&X-Amz-Expires=60"
        "&X-Amz-SignedHeaders=host&X-Amz-Security-Token=t{n}&X-Amz-Signature=s{n}"
    ),
    "tos": (
        "X-Tos-Algorithm=TOS4-HMAC-SHA256&X-Tos-Credential=c{n}&X-Tos-Date={n}&X-Tos-Expires=60"
        "&X-Tos-SignedHeaders=host&X-Tos-Security-Token=t{n}&X-Tos-Signature=s{n}"
    ),
    "obs with a token": "AccessKeyId=A{n}&Expires={n}&Signature=s{n}&x-obs-security-token=t{n}",
    "qiniu": "e={n}&token=k:{n}",
    "bos": "authorization=bce-auth-v1%2F{n}%2F1800%2Fhost%2F{n}",
    "tencent cdn": "sign=0123456789abcdef0123456789abcde{n}&t=169981120{n}",
    "upyun": "_upt=u{n}",
    "akamai": "hdnts=exp%3D{n}~hmac%3D{n}",
    "aws v2": "AWSAccessKeyId=A{n}&Expires={n}&Signature=s{n}",
    "google v4": "X-Goog-Algorithm=a&X-Goog-Credential=c{n}&X-Goog-Date={n}&X-Goog-Signature=s{n}",
    "google v2": "GoogleAccessId=g{n}&Expires={n}&Signature=s{n}",
    "cloudfront": "Policy=p{n}&Signature=s{n}&Key-Pair-Id=k{n}",
    "azure": "sv=2022&st={n}&se={n}&sr=b&sp=r&sig=s{n}",
    "tencent": (
        "q-sign-algorithm=sha1&q-ak=a{n}&q-sign-time={n}&q-key-time={n}&q-signature=s{n}"
        "&x-cos-security-token=t{n}"
    ),
    "alibaba cdn": "auth_key={n}-0-0-h{n}",
}


@pytest.mark.parametrize("signature", SIGNED_AGAIN.values(), ids=SIGNED_AGAIN)
@pytest.mark.parametrize("kept", ["", "x-oss-process=image/resize,w_800", "versionId=3&a=b"])
def test_a_url_signed_again_is_the_same_image(signature, kept):
    one, other = ("?" + "&".join(filter(None, [kept, signature.format(n=n)])) for n in (1, 2))
    assert strip_signature(IMAGE + one) == strip_signature(IMAGE + other) == IMAGE + (kept and f"?{kept}")
    first, second = replace(TASK, image=IMAGE + one), replace(TASK, image=IMAGE + other)
    assert fingerprint([first]) == fingerprint([second])
    assert fingerprint([replace(TASK, mask=IMAGE + one)]) == fingerprint([replace(TASK, mask=IMAGE + other)])


@pytest.mark.parametrize(
    "query",
    [
        "x-oss-process=image/resize,w_800",
        "x-tos-process=image/resize,w_800",
        "token=of-the-image",
        "t=thumbnail",
        "authorization=none",
        "versionId=CAEQ",
        "response-content-type=image/png",
        # Only beside a signature are these a signature's.
        "Expires=1",
        "policy=2",
        "sp=3",
        "se=4",
    ],
)
def test_what_chooses_the_image_stays(query):
    assert strip_signature(f"{IMAGE}?{query}") == f"{IMAGE}?{query}"
    assert fingerprint([replace(TASK, image=f"{IMAGE}?{query}")]) != fingerprint([TASK])


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
