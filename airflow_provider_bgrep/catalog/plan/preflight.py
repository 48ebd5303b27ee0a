# SPDX-License-Identifier: Apache-2.0
"""Checks options, destination and connection before a plan is created, and then creates it."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_bgrep.catalog.config.options import Options, path_problems
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.plan.create import create_plan
from airflow_provider_bgrep.catalog.plan.destination import Planner, check_destination
from airflow_provider_bgrep.exceptions import BgRepConfigurationError, BgRepError
from airflow_provider_bgrep.protocol.errors import InvalidInput, sanitize_message
from airflow_provider_bgrep.storage import absolute_path, check_writable
from airflow_provider_bgrep.store_errors import store_error
from airflow_provider_bgrep.store_paths import shown_path

_log = logging.getLogger(__name__)


def make_plan(given: Mapping[str, Any], planner: Planner, try_number: int = 1) -> dict[str, Any]:
    """Check options, destination and connection, then compare the catalog with the ledger and write a plan.

    :param given: see :class:`~airflow_provider_bgrep.catalog.config.options.Options`.
    :param planner: who makes the plan.
    :param try_number: Airflow's number of the try.
    :return: what the plan task pushes to XCom.
    """
    options = Options.checked(given)
    if problems := path_problems({"catalog": options.catalog, "destination": options.destination}):
        raise InvalidInput(problems)
    paths = CatalogPaths(absolute_path("destination", options.destination))
    _check_writable(paths)
    # A dry run, too: it writes its plan there, and says what a run would do.
    # On a store that excludes a second writer, the option has no effect.
    single = check_destination(paths, planner, single_writer=options.single_writer, dry_run=options.dry_run)
    options = replace(options, single_writer=single)
    if not options.dry_run:
        _check_connection(options.bgrep_conn_id)
    return create_plan(
        options,
        paths,
        dag_id=planner.dag_id,
        run_id=planner.run_id,
        group_id=planner.group_id,
        try_number=try_number,
    )


def _check_writable(paths: CatalogPaths) -> None:
    """Write and delete a file at the destination, before anything else is done.

    :raises BgRepConfigurationError: if the worker may not write there, or the bucket does not exist.
    :raises StoreError: if the store does not answer, or refuses access.
    """
    try:
        check_writable(paths.root)
    except (FileNotFoundError, PermissionError, NotADirectoryError, FileExistsError) as error:
        refused: Exception = error
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR):
            # The store does not answer, or the disk is full.
            raise store_error(paths.destination, error, "be written to") from error
        refused = error
    except Exception as error:  # of a store's library
        raise store_error(paths.destination, error, "be written to") from error
    else:
        return
    raise BgRepConfigurationError(
        f"destination {shown_path(str(paths.destination))} cannot be written to ({type(refused).__name__}: "
        f"{sanitize_message(refused)}). Create the folder or bucket and let the workers write to it, or give "
        "another destination. Nothing was submitted."
    ) from None


def _check_connection(bgrep_conn_id: str) -> None:
    """Query a job that does not exist, to check the connection. No image is generated.

    :raises BgRepError: if the connection is missing or wrong, or the service refuses it. Transient errors are
        only logged: the shards retry.
    """
    from airflow_provider_bgrep.hooks.bgrep import BgRepHook

    try:
        BgRepHook(bgrep_conn_id).check_account()
    except BgRepError as error:
        if isinstance(error, AirflowFailException):
            raise
        _log.warning("Could not check connection %s: %s", bgrep_conn_id, error)
