# SPDX-License-Identifier: Apache-2.0
"""One place has one name, for assets and for datasets, and no name holds a secret."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.lineage.location import MOST_SOURCES, Location, sources_of

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("path", "namespace", "name"),
    [
        ("s3://shop/images", "s3://shop", "images"),
        ("s3a://aws_default@shop//images/./2026/", "s3://shop", "images/2026"),
        (f"S3://key:{SECRET}@shop/catalog.csv?X-Amz-Signature={SECRET}#{SECRET}", "s3://shop", "catalog.csv"),
        (f"s3://key:half/{SECRET}@shop/catalog.csv", "s3://shop", "catalog.csv"),
        (f"s3://key:{SECRET}?{SECRET}@shop/catalog.csv", "s3://", "/"),
        (f"https://user:half/{SECRET}@cdn.example.com/a.png", "https://cdn.example.com", "/a.png"),
        ("s3://shop", "s3://shop", "/"),
        ("gcs://shop/images", "gs://shop", "images"),
        ("oss://oss_default@shop/images", "oss://shop", "images"),
        ("abfs://azure@shop/images", "abfss://shop", "images"),
        ("abfss://shop/images", "abfss://shop", "images"),
        ("/data/images", "file", "/data/images"),
        ("file:///data/images/", "file", "/data/images"),
        ("local:///data/杯", "file", "/data/杯"),
        (
            f"https://user:{SECRET}@CDN.example.com:8443/a/b.png?token={SECRET}",
            "https://cdn.example.com:8443",
            "/a/b.png",
        ),
    ],
)
def test_a_dataset_is_named_by_openlineages_convention(path: str, namespace: str, name: str):
    assert Location.of(path).dataset == (namespace, name)
    assert SECRET not in Location.of(path).text


@pytest.mark.parametrize(
    "paths",
    [
        ("s3://shop/images", "s3a://shop/images/", "S3://conn@shop//images"),
        ("gs://shop/images", "gcs://shop/./images"),
        ("abfs://shop/images", "abfss://shop/images", "adl://shop/images"),
        ("/data/images", "file:///data/images", "local:///data/images"),
        ("/data/a b%2Fc", "file:///data/a b%2Fc/"),
    ],
)
def test_every_spelling_of_a_place_is_one_asset(paths: tuple[str, ...]):
    (uri,) = {Location.of(path).asset_uri for path in paths}
    assert Location.of_asset(uri) == Location.of(paths[0])
    assert Location.of_asset(uri).asset_uri == uri


@pytest.mark.parametrize(
    "uri", ["bgrep://", "bgrep:///images", "bgrep://s3", "bgrep://s3/./", "s3://shop/images"]
)
def test_a_uri_that_names_no_place_is_refused(uri: str):
    with pytest.raises(ValueError, match="bgrep://s3/shop/images"):
        Location.of_asset(uri)


def test_sources_are_hosts_and_buckets_and_never_images():
    urls = [
        *(f"https://user{n}:{SECRET}@cdn.example.com/{n}.png?Signature={SECRET}{n}" for n in range(500)),
        *(f"s3://conn@shop/{n}.png" for n in range(9)),
        *("/relative.png", "", None, 7),
    ]
    assert sources_of(urls) == ("https://cdn.example.com", "s3://shop")


def test_no_more_sources_are_named_than_people_read():
    urls = [f"https://host{n}.example.com/a.png" for n in range(MOST_SOURCES * 3)]
    assert len(sources_of([*urls, urls[-1]])) == MOST_SOURCES
    assert sources_of([*urls, urls[-1]])[0] == f"https://host{MOST_SOURCES * 3 - 1}.example.com"
