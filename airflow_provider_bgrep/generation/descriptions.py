# SPDX-License-Identifier: Apache-2.0
"""Errors and image tasks in words, for logs and messages."""

from __future__ import annotations

from airflow_provider_bgrep.generation.items import WorkItem
from airflow_provider_bgrep.protocol.errors import CallError, sanitize_message
from airflow_provider_bgrep.protocol.urls import redact_url


def words(error: CallError) -> str:
    """An error's message with its code."""
    return f"{error.message} ({error.code})" if error.code else error.message


def name_of(item: WorkItem) -> str:
    """The name of an image task for people: its ``id``, or else its image's URL without query."""
    return sanitize_message(item.id)[:100] or (redact_url(item.task.image) if item.task else item.key)
