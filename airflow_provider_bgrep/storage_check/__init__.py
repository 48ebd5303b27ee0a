# SPDX-License-Identifier: Apache-2.0
"""Finds out by trying whether a store keeps what this package relies on, above all exclusive creation.

airflow-bgrep check-storage s3://bucket/folder --conn-id my_s3
"""

from __future__ import annotations

from airflow_provider_bgrep.storage_check.probes import check_storage as check_storage
from airflow_provider_bgrep.storage_check.report import Finding as Finding
from airflow_provider_bgrep.storage_check.report import Level as Level
from airflow_provider_bgrep.storage_check.report import StorageReport as StorageReport
