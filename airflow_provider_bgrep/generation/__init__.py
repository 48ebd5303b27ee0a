# SPDX-License-Identifier: Apache-2.0
"""Any number of image tasks, bought once, waited for and saved: the one operator's work, without Airflow."""
