# SPDX-License-Identifier: Apache-2.0
"""Decisions of persons about single rows: what they mean, and how they are recorded."""
