# SPDX-License-Identifier: Apache-2.0
"""Serves the gallery of a catalog refresh, and the images that it links to, to users of Airflow.

A user may open what belongs to a DAG run whose XComs the user may read. The XCom of its report task says
where the destination is. Only galleries, images and the manifest are served, and only from there.

Whoever can write to the destination could put a script into a gallery. It must have no access to Airflow. So
the gallery is sent with its policy, with which a browser runs the gallery's own script only; and any other
page, such as a gallery of another release, in a sandbox: the browser treats it as a page of another site.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from fastapi import Depends, FastAPI
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from airflow_provider_bgrep.catalog.model.paths import FOLDER
from airflow_provider_bgrep.catalog.report.gallery.page import content_security_policy
from airflow_provider_bgrep.protocol.errors import reason_of
from airflow_provider_bgrep.storage import fresh_fs, storage_path
from airflow_provider_bgrep.store_paths import shown_path

_IMAGES: Final = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "bmp": "image/bmp",
}
"""Content types of images, by suffix. SVG may contain scripts."""
_PAGES: Final = frozenset(("report.html", "index.html", "latest.html"))
"""Names of HTML files below ``_bgrep``."""
_MANIFEST: Final = "manifest.json"

_CHUNK: Final = 1024 * 1024
_HEAD: Final = 4096
"""Bytes at the beginning of a gallery that contain its policy."""
_SANDBOX: Final = "sandbox allow-scripts allow-downloads allow-popups allow-popups-to-escape-sandbox"
_HEADERS: Final = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_POLICY: Final = "Content-Security-Policy"


def make_app() -> FastAPI:
    """Return the app that Airflow's API server mounts."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get(
        "/files/{dag_id}/{run_id}/{task_id}/{name:path}",
        dependencies=[Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.XCOM))],
    )
    def get_file(dag_id: str, run_id: str, task_id: str, name: str) -> Response:
        """Return a file below the destination of a report task."""
        if (content_type := _content_type(name)) is None:
            return _problem(404, f"{name} is not a gallery, an image or the manifest.")
        root = _destination(_xcom(dag_id, run_id, task_id))
        if root is None:
            return _problem(
                404,
                f"Task {task_id} of DAG run {run_id} has not written a report, or its XCom was deleted or "
                "is in a custom XCom backend.",
            )
        return _file(root, name, content_type)

    return app


def _content_type(name: str) -> str | None:
    """The content type of a file that may be served; ``None`` for any other."""
    *folders, last = name.split("/")
    if not last or any(one in ("", ".", "..") or "\\" in one for one in (*folders, last)):
        return None
    suffix = last.partition(".")[2].rpartition(".")[2].lower()
    if suffix in _IMAGES:
        return _IMAGES[suffix]
    if folders[:1] == [FOLDER] and last in _PAGES:
        return "text/html; charset=utf-8"
    return "application/json" if name == _MANIFEST else None


def _xcom(dag_id: str, run_id: str, task_id: str) -> Any:
    """The result of a task, from the metadata database."""
    with create_session() as session:
        found = session.scalars(
            XComModel.get_many(
                run_id=run_id,
                key="return_value",
                task_ids=task_id,
                dag_ids=dag_id,
                map_indexes=-1,
                limit=1,
            )
        ).first()
        return None if found is None else XComModel.deserialize_value(found)


def _destination(result: Any) -> str | None:
    """The destination of a catalog refresh, from the result of its report task."""
    gallery = result.get("gallery") if isinstance(result, Mapping) else None
    if not isinstance(gallery, str):
        return None
    root, separator, _ = gallery.rpartition(f"/{FOLDER}/plans/")
    return root if separator else None


def _file(root: str, name: str, content_type: str) -> Response:
    """A file below a destination, read in chunks."""
    path = f"{root}/{name}"
    try:
        found = storage_path(path)
        file = fresh_fs(found).open(found.path, "rb")
    except (FileNotFoundError, IsADirectoryError):
        return _problem(
            404, f"{shown_path(path)} does not exist. Its plan may have been deleted: see keep_plans."
        )
    except Exception as error:
        return _problem(
            503,
            f"Airflow's API server cannot read {shown_path(path)} ({reason_of(error)}). It needs the "
            "package, the connection and the network access for this store that the workers have. Copy the "
            "path to open the file elsewhere.",
        )

    first = file.read(_CHUNK)

    def chunks() -> Iterator[bytes]:
        with file:
            yield first
            while chunk := file.read(_CHUNK):
                yield chunk

    own = content_security_policy()
    headers = {
        **_HEADERS,
        _POLICY: own if own.encode() in first[:_HEAD] else _SANDBOX,
        "Cache-Control": "private, max-age=3600" if content_type.startswith("image/") else "no-store",
    }
    return StreamingResponse(chunks(), media_type=content_type, headers=headers)


def _problem(status: int, text: str) -> Response:
    return PlainTextResponse(f"{text}\n", status, headers={**_HEADERS, _POLICY: _SANDBOX})
