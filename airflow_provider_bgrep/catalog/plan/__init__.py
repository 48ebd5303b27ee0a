# SPDX-License-Identifier: Apache-2.0
"""Catalog and ledger in, a plan out."""
