# SPDX-License-Identifier: Apache-2.0
"""The stock parts, the sensor in mode reschedule: a file of its own, for Airflow parses it for every task."""

from __future__ import annotations

from stock_parts import stock_dag

dag = stock_dag("reschedule")
