# SPDX-License-Identifier: Apache-2.0
"""Makes masks from images of products: 255 keeps a pixel, 0 lets the service generate it.

Each mask has a confidence, because a wrong mask costs more than none. The extra ``masks`` is needed.
"""
