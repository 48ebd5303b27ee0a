# SPDX-License-Identifier: Apache-2.0
"""The API's wire, and nothing else: no clock, no I/O, no Airflow. Of other libraries, only idna is used."""
