# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests and the proof share: a running Airflow, runs of one operator, and kills."""
