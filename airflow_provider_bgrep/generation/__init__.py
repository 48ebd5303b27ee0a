# SPDX-License-Identifier: Apache-2.0
"""Submits any number of image tasks once, waits for them and saves them, without Airflow."""
