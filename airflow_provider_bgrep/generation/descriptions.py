# SPDX-License-Identifier: Apache-2.0
"""What people are told."""

from __future__ import annotations

from airflow_provider_bgrep.generation.items import WorkItem
from airflow_provider_bgrep.protocol.errors import CallError, sanitize_message
from airflow_provider_bgrep.protocol.urls import redact_url


def words(error: CallError) -> str:
    """An answer in words, and its code."""
    return f"{error.message} ({error.code})" if error.code else error.message


def name_of(item: WorkItem) -> str:
    """What a person calls an image task: its id, or where there is none its image, unsigned."""
    return sanitize_message(item.id)[:100] or (redact_url(item.task.image) if item.task else item.key)
