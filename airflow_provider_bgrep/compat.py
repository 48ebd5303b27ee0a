# SPDX-License-Identifier: Apache-2.0
"""The one name that common-compat does not know in every version that fits Airflow 2.11."""

from __future__ import annotations

try:
    from airflow.sdk.log import mask_secret
except ImportError:
    try:  # Airflow 3.0
        from airflow.sdk.execution_time.secrets_masker import mask_secret
    except ImportError:  # Airflow 2
        from airflow.utils.log.secrets_masker import mask_secret  # type: ignore[no-redef,import-not-found]

__all__ = ["mask_secret"]
