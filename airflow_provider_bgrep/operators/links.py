# SPDX-License-Identifier: Apache-2.0
"""The links that Airflow shows on a task: to the API's page, and to what the task has written.

An operator calls :meth:`Linked.show` when it knows its links, so that they are on the task while it runs and
while it is deferred. A link is an ``http(s)`` URL without a signature: a URL that is signed expires, and is a
secret. What cannot be opened in a browser has no link; its path is in the task's log and XCom.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

API_PAGE: Final = "https://market.aliyun.com/apimarket/detail/cmapi00069649"
"""The API's page in Alibaba Cloud's marketplace, which leads to the console."""


class BgRepApiLink(BaseOperatorLink):
    """Opens the API's page in Alibaba Cloud's marketplace."""

    name = "Background generation API"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the URL."""
        return API_PAGE


class _StoredLink(BaseOperatorLink):
    """A link that the operator has shown, and which is kept in an XCom."""

    @property
    def key(self) -> str:
        """The XCom's key: the one that Airflow 3 reads."""
        return f"_link_{type(self).__name__}"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the URL; ``""`` if there is none."""
        # Airflow 3 asks in the worker when the task ends, Airflow 2 in the web server.
        shown: dict[str, str] | None = getattr(operator, "shown_links", None)
        url = XCom.get_value(ti_key=ti_key, key=self.key) if shown is None else shown.get(self.key)
        return str(url or "")


class BgRepImagesLink(_StoredLink):
    """Opens the folder with the saved or published images."""

    name = "Images"


class BgRepManifestLink(_StoredLink):
    """Opens the manifest."""

    name = "Manifest"


class BgRepPlanLink(_StoredLink):
    """Opens the folder of the plan of a catalog refresh."""

    name = "Plan"


class BgRepGalleryLink(_StoredLink):
    """Opens the gallery of a catalog refresh."""

    name = "Gallery"


LINKS: Final[tuple[type[BaseOperatorLink], ...]] = (
    BgRepApiLink,
    BgRepGalleryLink,
    BgRepImagesLink,
    BgRepManifestLink,
    BgRepPlanLink,
)
"""Every link. Airflow reads their names from the provider's metadata."""


class Linked:
    """Mixin of the operators that show links."""

    shown_links: dict[str, str]

    def show_links(self, context: Context, urls: Mapping[type[_StoredLink], str | None]) -> None:
        """Show links on the task from now on.

        :param context: Airflow's context.
        :param urls: the URL of each link; one without a URL is not shown.
        """
        shown = {kind().key: url for kind, url in urls.items() if url}
        self.shown_links = {**getattr(self, "shown_links", {}), **shown}
        for key, url in shown.items():
            context["ti"].xcom_push(key=key, value=url)
