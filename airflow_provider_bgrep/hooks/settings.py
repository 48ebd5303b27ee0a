# SPDX-License-Identifier: Apache-2.0
"""Reads the settings of an Airflow connection, and masks its AppCode."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_bgrep.compat import mask_secret
from airflow_provider_bgrep.connection import Settings, parse_connection
from airflow_provider_bgrep.exceptions import configuration_error
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection


def read_settings(conn: Connection, conn_id: str) -> Settings:
    """Return the settings of a connection, and mask its AppCode in all logs of this process.

    :raises BgRepConfigurationError: if the connection is invalid; lists every problem.
    """
    try:
        settings = parse_connection(
            host=conn.host, schema=conn.schema, port=conn.port, password=conn.password, extra=conn.extra
        )
        _check_files(settings)
    except InvalidInput as error:
        raise configuration_error(error, conn_id) from None
    if settings.app_code != conn.password:
        # Airflow masks the password as it was entered, for example with its prefix or a newline.
        mask_secret(settings.app_code)
    return settings


def _check_files(settings: Settings) -> None:
    """Check that the TLS files exist on this machine. The libraries' errors do not name the missing file.

    :raises InvalidInput: if files are missing; names them.
    """
    cert = (settings.cert,) if isinstance(settings.cert, str) else settings.cert or ()
    verify = (settings.verify,) if isinstance(settings.verify, str) else ()
    problems = [
        Problem(f"extra.{name}", f"is {path!r}, which does not exist on this machine")
        for name, paths in (("verify", verify), ("cert", cert))
        for path in paths
        if not Path(path).exists()
    ]
    if problems:
        raise InvalidInput(problems)
