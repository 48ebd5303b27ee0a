# SPDX-License-Identifier: Apache-2.0
"""Images from anywhere: one way to fetch a file, one way to decode it."""
