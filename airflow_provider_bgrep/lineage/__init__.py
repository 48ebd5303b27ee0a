# SPDX-License-Identifier: Apache-2.0
"""What is read and written, as Airflow's assets and OpenLineage's datasets name it."""
