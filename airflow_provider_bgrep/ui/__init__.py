# SPDX-License-Identifier: Apache-2.0
"""Pages in Airflow's API server: the reports of catalog refreshes."""
