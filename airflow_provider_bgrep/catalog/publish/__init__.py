# SPDX-License-Identifier: Apache-2.0
"""Copies images, commits the manifest, commits the ledger."""
