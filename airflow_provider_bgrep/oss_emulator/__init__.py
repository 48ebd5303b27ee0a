# SPDX-License-Identifier: Apache-2.0
"""An emulator of Alibaba Cloud's Object Storage Service (OSS) on loopback, for tests.

It checks V4 signatures, keeps versions, and refuses what the service refuses. Objects are kept in memory.
Each rule names the page of the public documentation that it follows, under
``https://www.alibabacloud.com/help/en/oss/``; pages such as ``0002-00000504`` describe one cause of an error.
Start it with ``python -m airflow_provider_bgrep.oss_emulator`` or, in tests, with the fixture of
:mod:`airflow_provider_bgrep.testing`.

It shares no code with the filesystem that talks to OSS, and none with Alibaba's SDK: a bug in one of them
must not be hidden by the same bug here.
"""

from __future__ import annotations
