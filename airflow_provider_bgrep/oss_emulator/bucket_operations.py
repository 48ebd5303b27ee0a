# SPDX-License-Identifier: Apache-2.0
"""Operations on buckets."""

from __future__ import annotations

from airflow_provider_bgrep.oss_emulator.buckets import Bucket, Versioning
from airflow_provider_bgrep.oss_emulator.documents import XML, document, iso_date, parsed
from airflow_provider_bgrep.oss_emulator.errors import OssError, malformed_xml
from airflow_provider_bgrep.oss_emulator.messages import Answer
from airflow_provider_bgrep.oss_emulator.store import OWNER, Call

_OWNER = ("Owner", [("ID", OWNER), ("DisplayName", OWNER)])


def list_buckets(call: Call) -> Answer:
    """List all buckets (page "ListBuckets (GetService)")."""
    buckets = [
        ("Bucket", _description(call, call.store.buckets[name])) for name in sorted(call.store.buckets)
    ]
    children = [_OWNER, ("Buckets", buckets)]
    return Answer(200, {"Content-Type": XML}, document("ListAllMyBucketsResult", children))


def _description(call: Call, bucket: Bucket) -> list[tuple[str, str]]:
    hosts = call.store.hosts
    return [
        ("CreationDate", iso_date(bucket.created)),
        ("ExtranetEndpoint", hosts.public),
        ("IntranetEndpoint", hosts.internal),
        ("Location", f"oss-{call.store.region}"),
        ("Name", bucket.name),
        ("Region", call.store.region),
        ("StorageClass", "Standard"),
    ]


def get_bucket_info(call: Call) -> Answer:
    """Return a bucket's properties, with its versioning if it was ever enabled (page "GetBucketInfo")."""
    bucket = call.bucket
    versioning = [("Versioning", bucket.versioning.value)] if bucket.is_versioned else []
    children = [
        *_description(call, bucket),
        *versioning,
        _OWNER,
        ("AccessControlList", [("Grant", "private")]),
    ]
    return Answer(200, {"Content-Type": XML}, document("BucketInfo", [("Bucket", children)]))


def get_bucket_acl(call: Call) -> Answer:
    """Return the access control list, which is always private (page "GetBucketAcl")."""
    _ = call.bucket
    children = [_OWNER, ("AccessControlList", [("Grant", "private")])]
    return Answer(200, {"Content-Type": XML}, document("AccessControlPolicy", children))


def get_bucket_location(call: Call) -> Answer:
    """Return the region of a bucket (page "GetBucketLocation")."""
    _ = call.bucket
    return Answer(200, {"Content-Type": XML}, document("LocationConstraint", f"oss-{call.store.region}"))


def get_bucket_versioning(call: Call) -> Answer:
    """Return the versioning state; empty if it was never enabled (page "GetBucketVersioning")."""
    bucket = call.bucket
    children = [("Status", bucket.versioning.value)] if bucket.is_versioned else []
    return Answer(200, {"Content-Type": XML}, document("VersioningConfiguration", children))


def put_bucket_versioning(call: Call) -> Answer:
    """Enable or suspend versioning (page "PutBucketVersioning")."""
    status = (parsed(call.request.body, "VersioningConfiguration").findtext("Status") or "").strip()
    if status not in (Versioning.ON.value, Versioning.SUSPENDED.value):
        raise malformed_xml()
    call.bucket.versioning = Versioning(status)
    return Answer(200)


def put_bucket(call: Call) -> Answer:
    """Create a bucket (page "PutBucket"). A bucket of this account that exists already is not an error."""
    name = call.request.bucket or ""
    if name not in call.store.buckets:
        call.store.create_bucket(name, Versioning.OFF)
    return Answer(200, {"Location": f"/{name}"})


def delete_bucket(call: Call) -> Answer:
    """Delete an empty bucket (page "DeleteBucket")."""
    bucket = call.bucket
    if bucket.versions or bucket.uploads:
        message = "The bucket you tried to delete is not empty."
        raise OssError(409, "BucketNotEmpty", message, "", {"BucketName": bucket.name})
    del call.store.buckets[bucket.name]
    return Answer(204)
