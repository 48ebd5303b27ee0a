# SPDX-License-Identifier: Apache-2.0
"""Describes errors and image tasks, for logs and messages."""

from __future__ import annotations

from airflow_provider_bgrep.generation.items import WorkItem
from airflow_provider_bgrep.protocol.errors import CallError, sanitize_message
from airflow_provider_bgrep.protocol.urls import redact_url


def words(error: CallError) -> str:
    """Return the message of an error with its code."""
    return f"{error.message} ({error.code})" if error.code else error.message


def name_of(item: WorkItem) -> str:
    """Return the name of an image task for messages: its ``id``, or its image's URL without query string."""
    return sanitize_message(item.id)[:100] or (redact_url(item.task.image) if item.task else item.key)
