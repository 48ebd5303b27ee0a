# SPDX-License-Identifier: Apache-2.0
"""The control routes under ``/_emulator/``, and their clients, in the same process or over HTTP."""

from __future__ import annotations

import abc
import base64
import json
import urllib.error
import urllib.request
from dataclasses import asdict
from typing import Any, Final
from urllib.parse import quote, urlsplit

from airflow_provider_bgrep.emulator import samples
from airflow_provider_bgrep.emulator.core import Core
from airflow_provider_bgrep.emulator.samples import Sample
from airflow_provider_bgrep.emulator.state import Counters
from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS

CONTROL_PREFIX: Final = "/_emulator/"


class ControlError(ValueError):
    """A control call is invalid."""


def handle(core: Core, method: str, path: str, payload: dict[str, Any]) -> Any:
    """Handle a call of a control route.

    :param path: the path after the prefix.
    :param payload: the JSON object of the body.
    :return: the answer, as a value that JSON can represent.
    :raises LookupError: for an unknown route or fault.
    :raises ValueError: for an invalid value.
    """
    route = (method, path.partition("/")[0])
    if route == ("GET", "info"):
        return {"url": core.base, "app_code": core.app_code, "now": core.state.now()}
    if route == ("GET", "counters"):
        return core.state.counters.as_dict()
    if route == ("GET", "settings"):
        return core.settings.as_dict()
    if route == ("POST", "configure"):
        return core.configure(payload).as_dict()
    if route == ("POST", "advance"):
        return {"now": core.advance(payload.get("seconds", 0))}
    if route == ("POST", "reset"):
        core.reset()
        return {}
    if route == ("GET", "samples"):
        return [asdict(sample) for sample in samples.listing(core.base)]
    if route == ("GET", "jobs"):
        return _jobs(core)
    if route == ("POST", "faults"):
        return _inject(core, payload)
    if route == ("GET", "faults"):
        _, _, fault_id = path.partition("/")
        every = core.faults.every
        return every[fault_id].as_dict() if fault_id else [fault.as_dict() for fault in every.values()]
    if route == ("DELETE", "faults"):
        core.faults.clear()
        return {}
    raise LookupError(f"unknown control route {method} {CONTROL_PREFIX}{path}")


def _inject(core: Core, payload: dict[str, Any]) -> dict[str, Any]:
    params = dict(payload.get("params") or {})
    if "body_base64" in params:
        params["body"] = base64.b64decode(params.pop("body_base64"))
    operation, times = payload.get("operation", "submit"), payload.get("times", 1)
    return core.faults.inject(str(payload.get("fault")), operation, times, params).as_dict()


def _jobs(core: Core) -> list[dict[str, Any]]:
    now = core.state.now()
    return [
        {
            "result_key": job.key,
            "created": job.created,
            "polls": job.polls,
            "statuses": list(job.statuses(now)),
            "prompts": [task.echo["positive_prompt"] for task in job.tasks],
        }
        for job in core.state.jobs.values()
    ]


class FaultHandle:
    """An injected fault, and how often it occurred."""

    def __init__(self, controls: Controls, fault_id: str) -> None:
        self._controls = controls
        self.id = fault_id

    @property
    def consumed(self) -> int:
        """How often it has occurred."""
        return int(self._now()["consumed"])

    @property
    def exhausted(self) -> bool:
        """Whether it has occurred as often as it was injected for."""
        return bool(self._now()["exhausted"])

    def _now(self) -> dict[str, Any]:
        answer: dict[str, Any] = self._controls.control("GET", f"faults/{self.id}")
        return answer

    def __repr__(self) -> str:
        return f"<fault {self._now()}>"


class Controls(abc.ABC):
    """The controls of an emulator, wherever it runs."""

    url: str

    @abc.abstractmethod
    def control(self, method: str, path: str, payload: dict[str, Any] | None = None) -> Any:
        """Call a control route."""

    @property
    def app_code(self) -> str:
        """The AppCode that the emulator accepts."""
        return str(self.control("GET", "info")["app_code"])

    @property
    def now(self) -> float:
        """The emulator's clock, in seconds since the epoch."""
        return float(self.control("GET", "info")["now"])

    @property
    def counters(self) -> Counters:
        """The counters: a copy, which later calls do not change."""
        return Counters(**self.control("GET", "counters"))

    @property
    def samples(self) -> list[Sample]:
        """The sample products that the emulator serves."""
        return [Sample(**one) for one in self.control("GET", "samples")]

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """The jobs: result key, statuses, prompts and number of queries of each."""
        answer: list[dict[str, Any]] = self.control("GET", "jobs")
        return answer

    @property
    def settings(self) -> dict[str, Any]:
        """The current settings."""
        answer: dict[str, Any] = self.control("GET", "settings")
        return answer

    def inject(self, fault: str, *, operation: str = "submit", times: int = 1, **params: Any) -> FaultHandle:
        """Inject a fault.

        :param fault: its name; ``docs/emulator.rst`` lists them.
        :param operation: ``submit``, ``query``, ``result`` or ``any``.
        :param times: how often it occurs.
        :param params: parameters of this fault.
        :return: a handle that counts how often it has occurred.
        :raises ValueError: for an unknown fault, operation, parameter or code.
        """
        if isinstance(params.get("body"), bytes):
            params["body_base64"] = base64.b64encode(params.pop("body")).decode()
        payload = {"fault": fault, "operation": operation, "times": times, "params": params}
        return FaultHandle(self, self.control("POST", "faults", payload)["id"])

    def configure(self, **changes: Any) -> dict[str, Any]:
        """Change settings.

        :param changes: see :class:`airflow_provider_bgrep.emulator.settings.Settings`.
        :return: all settings after the change.
        :raises ValueError: for an unknown setting or an invalid value.
        """
        answer: dict[str, Any] = self.control("POST", "configure", changes)
        return answer

    def advance(self, seconds: float) -> float:
        """Advance the emulator's clock: nonces age, URLs expire, jobs progress.

        :return: its time, in seconds since the epoch.
        """
        return float(self.control("POST", "advance", {"seconds": seconds})["now"])

    def reset(self) -> None:
        """Delete jobs, counters, nonces, faults and changed settings."""
        self.control("POST", "reset")

    def bad_image(self, name: str) -> str:
        """Return the URL of an image or mask that is refused.

        :param name: one of :data:`airflow_provider_bgrep.emulator.samples.BAD`, or ``missing``.
        """
        if name not in samples.BAD and name != "missing":
            raise ControlError(
                f"unknown bad image {name!r}, expected one of {sorted(samples.BAD)} or 'missing'"
            )
        return f"{self.url}{samples.SAMPLES_PREFIX}bad/{name}"

    def image_task(self, sample: str | None = None, **overrides: Any) -> dict[str, Any]:
        """Return a valid image task: a sample product with its mask and prompt.

        :param sample: name of the sample; by default the first one.
        :param overrides: fields with other values; ``None`` leaves a field out.
        """
        every = {one.name: one for one in self.samples}
        chosen = every[sample] if sample else next(iter(every.values()))
        task = {field.name: field.default for field in IMAGE_TASK_FIELDS.values()}
        task |= {"image": chosen.image, "mask": chosen.mask, "positive_prompt": chosen.prompt, "seed": 0}
        task |= overrides
        return {name: value for name, value in task.items() if value is not None}

    @property
    def connection_uri(self) -> str:
        """The Airflow connection to this emulator, as a value of ``AIRFLOW_CONN_BGREP_DEFAULT``."""
        return connection_uri(self.url, self.app_code)

    @property
    def connection_json(self) -> str:
        """The same connection as JSON, which ``AIRFLOW_CONN_BGREP_DEFAULT`` also accepts."""
        parts = urlsplit(self.url)
        return json.dumps(
            {
                "conn_type": "bgrep",
                "schema": "http",
                "host": parts.hostname,
                "port": parts.port,
                "password": self.app_code,
            }
        )


def connection_uri(url: str, app_code: str) -> str:
    """Return the Airflow connection to an emulator as a URI, which needs no quoting in a shell.

    :param url: URL of the emulator.
    :param app_code: the AppCode that it accepts.
    """
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"bgrep://:{quote(app_code, safe='')}@{host}:{parts.port}/http"


class EmulatorClient(Controls):
    """Controls an emulator in another process over HTTP.

    :param url: its URL, as it prints it.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        # Not through a proxy from the environment: the emulator is on loopback.
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def control(self, method: str, path: str, payload: dict[str, Any] | None = None) -> Any:
        """Call a control route over HTTP.

        :raises ValueError: if the emulator refuses the call.
        """
        body = json.dumps(payload or {}).encode() if method == "POST" else None
        request = urllib.request.Request(  # noqa: S310 (the URL is the emulator's)
            self.url + CONTROL_PREFIX + path, body, {"Content-Type": "application/json"}, method=method
        )
        try:
            with self._open(request, timeout=30) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise ControlError(json.load(error).get("error", str(error))) from error
