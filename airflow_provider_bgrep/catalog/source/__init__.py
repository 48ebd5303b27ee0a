# SPDX-License-Identifier: Apache-2.0
"""Catalogs and source images, read as they are."""
