# SPDX-License-Identifier: Apache-2.0
"""The catalog's values: paths, columns, states, plans. Pure."""
