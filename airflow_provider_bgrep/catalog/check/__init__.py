# SPDX-License-Identifier: Apache-2.0
"""Compares generated images with their sources."""
