# SPDX-License-Identifier: Apache-2.0
"""``oss://``: Alibaba Cloud's object storage as an fsspec filesystem, for Airflow's ``ObjectStoragePath``."""
