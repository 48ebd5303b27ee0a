# SPDX-License-Identifier: Apache-2.0
"""The gallery, the summary and the log line."""
