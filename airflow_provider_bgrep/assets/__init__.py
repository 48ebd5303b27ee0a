# SPDX-License-Identifier: Apache-2.0
"""Airflow's assets of this provider."""
