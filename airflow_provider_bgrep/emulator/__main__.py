# SPDX-License-Identifier: Apache-2.0
"""Serves the emulator from the command line."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_provider_bgrep.emulator.settings import (
    BACKGROUNDS,
    DEFAULT_APP_CODE,
    GATEWAYS,
    RATE_SCOPES,
    TIMINGS,
    Settings,
)

if TYPE_CHECKING:
    from airflow_provider_bgrep.emulator.core import Core


def _loopback(host: str) -> str:
    if host == "localhost":
        return host
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return host
    raise argparse.ArgumentTypeError(
        f"{host} is not a loopback address; the emulator serves this machine only"
    )


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = argparse.ArgumentParser(
        prog="python -m airflow_provider_bgrep.emulator",
        description="Serve the background generation API on loopback, strictly and free of charge.",
    )
    add_arguments(options)
    return options


def add_arguments(options: argparse.ArgumentParser) -> None:
    """Add the options to a parser. This loads nothing that the extra ``emulator`` installs."""
    defaults = Settings()
    add = options.add_argument
    add("--host", type=_loopback, default="127.0.0.1", help="loopback address (default: %(default)s)")
    add("--port", type=int, default=0, help="port, 0 for a free one (default: %(default)s)")
    add("--app-code", default=DEFAULT_APP_CODE, help="the AppCode it accepts (default: %(default)s)")
    add("--state", metavar="FILE", help="file that keeps jobs, counters and nonces over a restart")
    add("--timing", choices=TIMINGS, default="lifelike", help="when jobs finish (default: %(default)s)")
    add(
        "--polls",
        type=int,
        default=defaults.polls,
        help="queries until a job is finished, with --timing polls",
    )
    add(
        "--seconds",
        type=float,
        nargs=2,
        default=defaults.seconds,
        metavar=("MEDIAN", "SIGMA"),
        help="seconds that an image task takes, log-normal, with --timing lifelike",
    )
    add(
        "--stagger",
        type=float,
        default=defaults.stagger,
        help="seconds or polls by which each further image task of a job is later",
    )
    add(
        "--result-seconds",
        type=float,
        default=defaults.result_seconds,
        help="seconds that a result URL is valid",
    )
    add("--quota-images", type=int, help="credit in images")
    add("--subscription-calls", type=int, help="calls included in the subscription")
    add("--rate", type=float, help="calls per second that are not throttled")
    add(
        "--rate-scope",
        choices=sorted(RATE_SCOPES),
        default=defaults.rate_scope,
        help="what the limit applies to",
    )
    add("--gateway", choices=GATEWAYS, default=defaults.gateway, help="form of the gateway's answers")
    add(
        "--backgrounds",
        choices=BACKGROUNDS,
        default=defaults.backgrounds,
        help="scenes by words of the prompt, or plain ones, which take less time (default: %(default)s)",
    )
    add("--no-fetch", action="store_true", help="do not fetch and check submitted images, for load tests")


_NAMES = (
    "timing polls seconds stagger result_seconds quota_images subscription_calls rate rate_scope gateway "
    "backgrounds"
).split()


def ready_message(url: str, app_code: str) -> str:
    """Return what is printed when the emulator is ready: the URL alone on the first line.

    :param url: URL of the emulator.
    :param app_code: the AppCode that it accepts.
    """
    from airflow_provider_bgrep.emulator.control import connection_uri

    return f"{url}\nAppCode: {app_code}\nAIRFLOW_CONN_BGREP_DEFAULT={connection_uri(url, app_code)}"


async def serve(host: str, port: int, core: Core) -> None:
    """Serve until SIGINT or SIGTERM; print URL, AppCode and connection when ready."""
    from airflow_provider_bgrep.emulator.server import Server

    server = Server(core)
    url = await server.start(host, port)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stopping.set)
    print(ready_message(url, core.app_code), flush=True)
    await stopping.wait()
    await server.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    :return: the exit status.
    """
    return run(parser().parse_args(arguments))


def run(options: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM.

    :param options: the parsed command line.
    :return: the exit status.
    """
    from airflow_provider_bgrep.emulator.core import Core

    try:
        chosen = {name: getattr(options, name) for name in _NAMES}
        core = Core(
            options.app_code, options.state, Settings().changed({**chosen, "fetch": not options.no_fetch})
        )
        asyncio.run(serve(options.host, options.port, core))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
