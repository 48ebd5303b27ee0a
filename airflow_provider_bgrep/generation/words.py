# SPDX-License-Identifier: Apache-2.0
"""What people are told."""

from __future__ import annotations

from airflow_provider_bgrep.generation.items import Item
from airflow_provider_bgrep.protocol.errors import CallError, tidy
from airflow_provider_bgrep.protocol.validation import shown_url


def words(error: CallError) -> str:
    """An answer in words, and its code."""
    return f"{error.message} ({error.code})" if error.code else error.message


def name_of(item: Item) -> str:
    """What a person calls an image task: its id, or where there is none its picture, unsigned."""
    return tidy(item.id)[:100] or (shown_url(item.task.image) if item.task else item.key)
