# SPDX-License-Identifier: Apache-2.0
"""The command line ``airflow-bgrep``: one module for each command.

A command's module imports what it needs when it runs: ``airflow`` builds the parsers of all providers each
time that it starts.
"""
