# SPDX-License-Identifier: Apache-2.0
"""The hooks: submit and query jobs through an Airflow connection."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import requests
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook
from airflow.providers.http.hooks.http import HttpHook
from requests.auth import AuthBase

from airflow_provider_bgrep.client import AsyncClient, drive, new_nonce, new_runtime, sleep
from airflow_provider_bgrep.connection import (
    CONNECTION_TYPE,
    DEFAULT_CONNECTION_ID,
    EXTRAS,
    HOOK_NAME,
    Settings,
)
from airflow_provider_bgrep.exceptions import (
    BgRepJobNotFoundError,
    error_from,
    input_error,
    undefined_connection,
    unmatched_error,
)
from airflow_provider_bgrep.get_provider_info import ui_field_behaviour
from airflow_provider_bgrep.hooks.clients import SharedClient, take_client
from airflow_provider_bgrep.hooks.settings import read_settings
from airflow_provider_bgrep.metrics import REQUESTS_THROTTLED
from airflow_provider_bgrep.protocol import flows
from airflow_provider_bgrep.protocol.codes import ErrorKind
from airflow_provider_bgrep.protocol.errors import (
    NOT_CONNECTED,
    CallError,
    InvalidInput,
    sanitize_message,
    without_secret,
)
from airflow_provider_bgrep.protocol.matching import UnmatchedError, match
from airflow_provider_bgrep.protocol.models import ImageTask, Job
from airflow_provider_bgrep.protocol.retry import ONCE, QUERY, RESULTS
from airflow_provider_bgrep.protocol.validation import validate_tasks
from airflow_provider_bgrep.protocol.wire import NONCE_HEADER, request_headers
from airflow_provider_bgrep.request_counter import RequestCounter
from airflow_provider_bgrep.stats import count
from airflow_provider_bgrep.transport import CONNECT_TIMEOUT, OneAttemptAdapter, environment_bundle

if TYPE_CHECKING:
    from types import TracebackType


T = TypeVar("T")


def _warn_of_doubt(job: Job, log: Any) -> None:
    if job.doubt:
        log.warning(
            "Job %s counts as accepted: %s. A query shows whether it exists.", job.result_key, job.doubt
        )


def _matched(job: Job, submitted: Sequence[ImageTask] | None) -> Job:
    """Return the job with its tasks in the submitted order, if the submitted tasks are known."""
    if submitted is None:
        return job
    try:
        return match(job, submitted).checked()
    except UnmatchedError as error:
        raise unmatched_error(error) from None


class AppCodeAuth(AuthBase):
    """Adds the AppCode and a new nonce to requests that lack them, and prevents the use of ``.netrc``."""

    def __init__(self, app_code: str) -> None:
        self._app_code = app_code

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the headers. The requests library calls this for every request."""
        if NONCE_HEADER not in request.headers:
            request.headers.update(request_headers(self._app_code, new_nonce()))
        return request


class BgRepHook(HttpHook):
    """Submits and queries jobs.

    Unlike :class:`HttpHook`, it does not send extras as headers, does not use credentials from ``login``
    or ``.netrc``, does not follow redirects, and defaults to https.

    :param bgrep_conn_id: the id of the ``bgrep`` connection.
    """

    conn_name_attr = "bgrep_conn_id"
    default_conn_name = DEFAULT_CONNECTION_ID
    conn_type = CONNECTION_TYPE
    hook_name = HOOK_NAME

    def __init__(self, bgrep_conn_id: str = DEFAULT_CONNECTION_ID) -> None:
        super().__init__(method="POST", http_conn_id=bgrep_conn_id)
        self.bgrep_conn_id = bgrep_conn_id
        self._parsed: Settings | None = None

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the fields of the connection form on Airflow 2. Airflow 3 reads ``conn-fields``."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget  # type: ignore[import-not-found]
        from flask_babel import lazy_gettext  # type: ignore[import-not-found]
        from wtforms import StringField  # type: ignore[import-untyped]

        return {
            extra.name: StringField(
                lazy_gettext(extra.label), widget=BS3TextFieldWidget(), description=extra.description
            )
            for extra in EXTRAS.values()
        }

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the standard fields of the connection form look on Airflow 2."""
        return {name.replace("-", "_"): value for name, value in ui_field_behaviour().items()}

    @property
    def settings(self) -> Settings:
        """The validated connection.

        :raises BgRepConfigurationError: if it is missing or invalid; lists every problem.
        """
        if self._parsed is None:
            try:
                conn = self.get_connection(self.bgrep_conn_id)
            except AirflowNotFoundException:
                raise undefined_connection(self.bgrep_conn_id) from None
            self._parsed = read_settings(conn, self.bgrep_conn_id)
        return self._parsed

    def submit(
        self,
        task_list: Iterable[ImageTask | Mapping[str, Any]],
        *,
        before_send: Callable[[str], None] = lambda nonce: None,
        after_refusal: Callable[[CallError], None] = lambda error: None,
    ) -> Job:
        """Submit one job. **Submits are billable.**

        The request is repeated only if it was throttled, or if no connection could be established.

        :param task_list: 1 to 10 image tasks.
        :param before_send: called before each attempt with its nonce, for a caller that records it. If it
            raises, nothing is sent.
        :param after_refusal: called with the error of an attempt that was not accepted, before the next one.
        :return: the job, with its tasks in the order of ``task_list``. If the response is an error but names
            a job, that job is returned: only a query shows whether it exists.
        :raises BgRepRequestError: if ``task_list`` is invalid; nothing is sent.
        :raises BgRepUnknownOutcomeError: if the response was lost; the job may be accepted and billed.
        """
        try:
            tasks = validate_tasks(task_list)
            job = self._drive(flows.submit(tasks, new_runtime()), before_send, after_refusal)
        except InvalidInput as error:
            raise input_error(error) from None
        _warn_of_doubt(job, self.log)
        return job

    def query(
        self,
        result_key: str,
        task_list: Iterable[ImageTask | Mapping[str, Any]] | None = None,
        *,
        is_known: bool = False,
    ) -> Job:
        """Return the current state of one job. The query is repeated after a transient failure.

        :param result_key: the key that the submit returned.
        :param task_list: the image tasks as submitted. The job's tasks follow this list; without it, they
            follow the response, whose order the API does not promise. A submitted image task that the
            response does not contain yet has the status ``MISSING``.
        :param is_known: whether the job existed before. Then "no such job" may be a stale answer, and the
            query is repeated for about a minute and a half.
        :raises BgRepJobNotFoundError: if the job does not exist.
        :raises BgRepUnmatchedError: if it is not certain which result belongs to which image task.
        """
        try:
            submitted = None if task_list is None else validate_tasks(task_list)
            flow = flows.query(result_key, new_runtime(), RESULTS if is_known else QUERY)
            return _matched(self._drive(flow), submitted)
        except InvalidInput as error:
            raise input_error(error) from None

    def test_connection(self) -> tuple[bool, str]:
        """Check the connection with one query for a job that does not exist.

        Nothing is generated, so nothing is billed.

        :return: whether the connection works, and a message.
        """
        try:
            self._drive_raw(flows.query(secrets.token_hex(16), new_runtime(), ONCE))
        except CallError as error:
            if error.kind is ErrorKind.JOB_NOT_FOUND:
                return (
                    True,
                    "The AppCode works: the API accepts this account. Nothing was generated or billed.",
                )
            return False, f"{_diagnosis(error)}. {error_from(error)}"
        except Exception as error:
            # The form shows what is returned, but not always what is raised.
            return False, sanitize_message(error)
        return True, "The API answered."

    def check_account(self) -> None:
        """Query a job that does not exist, to check that the API accepts this account. Nothing is billed.

        :raises BgRepError: if the connection is missing or wrong, or the API does not accept the account.
        """
        with contextlib.suppress(BgRepJobNotFoundError):
            self._drive(flows.query(secrets.token_hex(16), new_runtime(), ONCE))

    def _drive(self, flow: Generator[flows.Step, flows.Reply, T], *watchers: Callable[[Any], None]) -> T:
        try:
            return self._drive_raw(flow, *watchers)
        except CallError as error:
            raise error_from(error) from None

    def _drive_raw(self, flow: Generator[flows.Step, flows.Reply, T], *watchers: Callable[[Any], None]) -> T:
        counter = RequestCounter(lambda: count(REQUESTS_THROTTLED))
        return drive(flow, self.settings, self._post, self._sleep, counter, *watchers)

    def _sleep(self, seconds: float) -> None:
        if seconds >= 1:
            self.log.info("Waiting %.1f s before the next attempt.", seconds)
        sleep(seconds)

    def _post(self, path: str, body: bytes, headers: dict[str, str]) -> requests.Response:
        response: requests.Response = self.run(
            endpoint=path,
            data=body,  # type: ignore[arg-type]
            headers=headers,
            extra_options={"check_response": False},
        )
        return response

    def get_conn(
        self, headers: dict[Any, Any] | None = None, extra_options: dict[str, Any] | None = None
    ) -> requests.Session:
        """Return a session for this API only. Each call has its own session and connection.

        :param headers: headers of every request.
        :param extra_options: as for :class:`HttpHook`; only ``check_response`` is used.
        """
        settings = self.settings
        self.base_url = settings.base_url
        self._base_url_initialized = True
        self.merged_extra = {
            "check_response": (extra_options or {}).get("check_response", True),
            "timeout": (min(CONNECT_TIMEOUT, settings.timeout), settings.timeout),
        }
        session = requests.Session()
        session.auth = AppCodeAuth(settings.app_code)
        for scheme in ("http://", "https://"):
            session.mount(scheme, OneAttemptAdapter())
        session.verify, session.cert, session.stream = settings.verify, settings.cert, True
        if settings.proxies is not None:
            # The connection's proxies replace those of the environment. The CA bundle of the environment
            # still applies.
            session.trust_env, session.proxies = False, dict(settings.proxies)
            if settings.verify is True:
                session.verify = environment_bundle()
        session.headers.update(headers or {})
        return session

    def run_and_check(
        self,
        session: requests.Session,
        prepped_request: requests.PreparedRequest,
        extra_options: dict[Any, Any],
    ) -> requests.Response:
        """Send one request once, to the API's host only."""
        # HttpHook logs that a broken connection will be retried, which is not the case here.
        settings = session.merge_environment_settings(
            prepped_request.url, {}, session.stream, session.verify, session.cert
        )
        response = session.send(
            prepped_request, timeout=extra_options.get("timeout"), allow_redirects=False, **settings
        )
        if extra_options.get("check_response", True):
            self.check_response(response)
        return response


def _diagnosis(error: CallError) -> str:
    if error.rule is NOT_CONNECTED:
        return "The API cannot be reached"
    is_theirs = error.code or error.request_id or error.gateway_request_id
    if error.kind in _ELSEWHERE and (error.http_status or 500) < 500 and not is_theirs:
        return "Wrong domain or path: another server answers there"
    return _DIAGNOSES.get(error.kind, "No answer")


_ELSEWHERE: Final = (ErrorKind.CONFIGURATION, ErrorKind.REQUEST, ErrorKind.SERVICE)
"""Kinds of errors that a web server other than this API causes: it redirects, refuses, or returns a page."""

_DIAGNOSES: Final[dict[ErrorKind, str]] = {
    ErrorKind.AUTH: "Wrong AppCode",
    ErrorKind.QUOTA: "No subscription, or the subscription is used up",
    ErrorKind.CONFIGURATION: "Wrong domain or path, or this address is refused",
    ErrorKind.THROTTLED: "The API is busy; the AppCode was not checked",
    ErrorKind.REQUEST: "The API refused the query",
}


class BgRepAsyncHook(BaseHook):
    """Submits and queries jobs in triggers and other coroutines, without blocking the event loop.

    Within ``async with``, the hook keeps its HTTP connections. Hooks of the same Airflow connection in
    one event loop share them.

    :param bgrep_conn_id: the id of the ``bgrep`` connection.
    """

    conn_name_attr = "bgrep_conn_id"
    default_conn_name = DEFAULT_CONNECTION_ID
    conn_type = CONNECTION_TYPE
    hook_name = HOOK_NAME

    def __init__(self, bgrep_conn_id: str = DEFAULT_CONNECTION_ID) -> None:
        super().__init__()
        self.bgrep_conn_id = bgrep_conn_id
        self._shared: SharedClient | None = None

    async def __aenter__(self) -> BgRepAsyncHook:
        self._shared = await take_client(self.bgrep_conn_id)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        shared, self._shared = self._shared, None
        if shared is not None:
            await shared.release()

    async def submit(self, task_list: Iterable[ImageTask | Mapping[str, Any]]) -> Job:
        """As :meth:`BgRepHook.submit`."""
        try:
            job = await self._drive(flows.submit(validate_tasks(task_list), new_runtime()))
        except InvalidInput as error:
            raise input_error(error) from None
        _warn_of_doubt(job, self.log)
        return job

    async def query(
        self,
        result_key: str,
        task_list: Iterable[ImageTask | Mapping[str, Any]] | None = None,
        *,
        is_known: bool = False,
    ) -> Job:
        """As :meth:`BgRepHook.query`."""
        try:
            submitted = None if task_list is None else validate_tasks(task_list)
            flow = flows.query(result_key, new_runtime(), RESULTS if is_known else QUERY)
            return _matched(await self._drive(flow), submitted)
        except InvalidInput as error:
            raise input_error(error) from None

    async def wait(
        self,
        result_key: str,
        *,
        poll_interval: float,
        end_time: float,
        counter: RequestCounter | None = None,
        tasks: int = 0,
        on_unfinished: Callable[[Sequence[str]], None] = lambda statuses: None,
    ) -> flows.Waited:
        """Query one job until it is finished, or until ``end_time``.

        :param poll_interval: seconds between two queries.
        :param end_time: deadline, in seconds since the epoch.
        :param counter: counts the HTTP calls.
        :param tasks: number of image tasks in the job; 0 if it is not known. A response with fewer does not
            end the wait.
        :param on_unfinished: called with the statuses in each response about an unfinished job.
        :raises CallError: the error that ends the wait. The trigger sends its code to the worker.
        """
        async with self._client() as client:

            def unknown(status: str) -> None:
                text = without_secret(status, client.settings.app_code)
                self.log.warning(
                    "Job %s has the undocumented status %r; continuing to wait.", result_key, text
                )

            flow = flows.wait(
                result_key,
                new_runtime(),
                poll_interval=poll_interval,
                end_time=end_time,
                tasks=tasks,
                on_unknown_status=unknown,
                on_unfinished=on_unfinished,
            )
            return await client.drive(flow, counter)

    async def _drive(self, flow: Generator[flows.Step, flows.Reply, T]) -> T:
        async with self._client() as client:
            try:
                return await client.drive(flow)
            except CallError as error:
                raise error_from(error) from None

    @contextlib.asynccontextmanager
    async def _client(self) -> AsyncIterator[AsyncClient]:
        if self._shared is not None:
            yield self._shared.client
            return
        shared = await take_client(self.bgrep_conn_id)
        try:
            yield shared.client
        finally:
            await shared.release()
