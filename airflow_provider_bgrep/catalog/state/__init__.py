# SPDX-License-Identifier: Apache-2.0
"""Everything that is kept under ``{destination}/_bgrep``; nobody else reads or writes those files."""
