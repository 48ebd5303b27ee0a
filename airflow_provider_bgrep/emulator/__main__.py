# SPDX-License-Identifier: Apache-2.0
"""Serve the emulator from the command line."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import signal
import sys
from collections.abc import Sequence

from airflow_provider_bgrep.emulator.core import DEFAULT_APP_CODE, Core
from airflow_provider_bgrep.emulator.server import Server
from airflow_provider_bgrep.emulator.settings import GATEWAYS, RATE_SCOPES, TIMINGS, Settings


def _loopback(host: str) -> str:
    if host == "localhost":
        return host
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return host
    raise argparse.ArgumentTypeError(f"{host} is no loopback address: the emulator serves this machine only")


def parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    first = Settings()
    options = argparse.ArgumentParser(
        prog="python -m airflow_provider_bgrep.emulator",
        description="The background generation API on loopback: strict, free, and no diffusion model.",
    )
    add = options.add_argument
    add("--host", type=_loopback, default="127.0.0.1", help="loopback address (default: %(default)s)")
    add("--port", type=int, default=0, help="port, 0 for a free one (default: %(default)s)")
    add("--app-code", default=DEFAULT_APP_CODE, help="the AppCode it knows (default: %(default)s)")
    add("--state", metavar="FILE", help="keep jobs, counters and nonces over a restart")
    add("--timing", choices=TIMINGS, default="lifelike", help="when jobs finish (default: %(default)s)")
    add("--polls", type=int, default=first.polls, help="unfinished answers before a job is finished")
    add(
        "--seconds",
        type=float,
        nargs=2,
        default=first.seconds,
        metavar=("MEDIAN", "SIGMA"),
        help="log-normal time of an image task",
    )
    add(
        "--stagger", type=float, default=first.stagger, help="how much later each further image task finishes"
    )
    add("--result-seconds", type=float, default=first.result_seconds, help="life of a result URL")
    add("--quota-images", type=int, help="credit in images")
    add("--subscription-calls", type=int, help="calls of the subscription")
    add("--rate", type=float, help="calls per second before throttling")
    add("--rate-scope", choices=sorted(RATE_SCOPES), default=first.rate_scope, help="whose limit that is")
    add("--gateway", choices=GATEWAYS, default=first.gateway, help="how the gateway answers")
    add("--no-fetch", action="store_true", help="do not fetch and check submitted images (load tests)")
    return options


_NAMES = (
    "timing polls seconds stagger result_seconds quota_images subscription_calls rate rate_scope gateway"
).split()


async def serve(host: str, port: int, core: Core) -> None:
    """Serve until interrupted; says where in one line when ready."""
    server = Server(core)
    url = await server.start(host, port)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stopping.set)
    print(url, flush=True)
    await stopping.wait()
    await server.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    :return: the exit status.
    """
    options = parser().parse_args(arguments)
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
