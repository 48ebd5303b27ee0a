# SPDX-License-Identifier: Apache-2.0
"""The API's wire, and nothing else: no clock, no I/O, no Airflow, standard library only."""
