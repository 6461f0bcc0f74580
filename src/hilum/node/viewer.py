"""Serve OHIF's viewer to this machine, with the archive's DICOMweb services under the same address.

    /                the viewer (`hilum.node.viewer_package`)
    /dicom-web/…     the archive, for reading: GET of studies, series and instances

One origin serves both, so a browser needs nothing from elsewhere, and a policy forbids it
(Content-Security-Policy). The credentials of the archive stay with the node. Whoever uses this
machine sees the studies, as with any other program here; nobody else does: the server listens on
loopback alone, and a request under another host's name, as a page in a browser could send one, is
refused.
"""

from __future__ import annotations

import json
import mimetypes
import re
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

from hilum.errors import BadRecipe, HilumError, Unreachable
from hilum.node import page_server, web_servers
from hilum.node.http_client import Answer, Peer, Rejected
from hilum.node.page_server import Page, PageHandler
from hilum.node.settings import Settings
from hilum.safety.loopback import is_loopback

HOST, PORT = "127.0.0.1", 8044
ROOT = "dicom-web"  # of the archive's services here
_SECONDS = 30.0  # that a browser may be silent
_FORWARDED = (200, 204, 206, 304, 400, 404, 406, 415)
_READ = re.compile(r"/(studies|series|instances)([/?][\x21-\x7e]*)?")
_TYPES = {".wasm": "application/wasm", ".js": "text/javascript", ".mjs": "text/javascript"}
_HEADERS = {
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_POLICY = "Content-Security-Policy"
# OHIF compiles WebAssembly, and runs its decoders as workers from blobs.
_OF_PAGES = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; worker-src 'self' blob:; "
    "connect-src 'self' data: blob:; font-src 'self' data:; frame-ancestors 'none'; "
    "form-action 'self'; base-uri 'self'"
)
_OF_DATA = "default-src 'none'; sandbox; frame-ancestors 'self'"  # a page in an archive stays dead
# In place of what would register a worker that keeps pages in the browser.
_REPLACED = {"init-service-worker.js": b"", "sw.js": b""}


def archive(settings: Settings) -> tuple[str, Callable[[], Peer]]:
    """Return the root of the archive's DICOMweb services, and what connects to it.

    It is the archive that results go to. Raises `BadRecipe` where it speaks no DICOMweb.
    """
    found = next(iter(web_servers.servers(settings).values()), None)
    if found is None:
        raise BadRecipe(
            f"{settings.path} names no DICOMweb server, which the viewer reads from; add "
            f"[source.orthanc], [source.dicomweb], or a [destination] with to = 'dicomweb'"
        )
    return found.url, found.connect


@contextmanager
def serving(
    files: Mapping[str, bytes], url: str, connect: Callable[[], Peer], port: int = PORT
) -> Iterator[int]:
    """Serve the viewer's files and the archive while the block runs; give the port.

    Raises `CannotWrite` where the port is taken.
    """
    local = threading.local()

    class Handler(_Handler):
        """Answers with these files and this archive."""

        def peer(self) -> Peer:
            """Return the connection to the archive: one for each thread."""
            if not hasattr(local, "peer"):
                local.peer = connect()
            return local.peer

    Handler.files, Handler.archive = {**files, **_REPLACED, "app-config.js": configuration()}, url
    with page_server.serving(Handler, HOST, port, "--port") as taken:
        yield taken


def configuration() -> bytes:
    """Return OHIF's settings as a script (https://docs.ohif.org, configuration)."""
    root = f"/{ROOT}"
    source = {
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
        "sourceName": "archive",
        "configuration": {
            "friendlyName": "the node's archive",
            "name": "archive",
            "qidoRoot": root,
            "wadoRoot": root,
            "wadoUriRoot": root,
            "qidoSupportsIncludeField": True,
            "supportsReject": False,
            "supportsStow": False,
            "supportsFuzzyMatching": False,
            "supportsWildcard": True,
            "imageRendering": "wadors",
            "thumbnailRendering": "wadors",
            "enableStudyLazyLoad": True,
            "dicomUploadEnabled": False,
            "omitQuotationForMultipartRequest": True,
            "bulkDataURI": {"enabled": True, "relativeResolution": "studies"},
        },
    }
    settings = {
        "routerBasename": "/",
        "extensions": [],
        "modes": [],
        "customizationService": {},
        "showStudyList": True,
        "maxNumberOfWebWorkers": 2,
        "showWarningMessageForCrossOrigin": False,
        "showCPUFallbackMessage": False,
        "showLoadingIndicator": True,
        "disableConfirmationPrompts": True,
        "strictZSpacingForVolumeViewport": True,
        "investigationalUseDialog": {"option": "always"},
        "defaultDataSourceName": "archive",
        "dataSources": [source],
    }
    return f"window.config = {json.dumps(settings)};\n".encode()


def _is_read(path: str) -> bool:
    """Return whether a path below the archive's root is one of objects, also for who decodes it.

    Servers differ in how often they decode an address, and in what a backslash means.
    """
    place = unquote(unquote(path.partition("?")[0]))
    plain = not {"..", "."} & set(re.split(r"[/\\;]", place)) and "\\" not in place
    return plain and "//" not in place and bool(_READ.fullmatch(path))


class _Handler(PageHandler):
    """Answers with a file of the viewer or with what the archive has."""

    protocol_version = "HTTP/1.1"
    timeout = _SECONDS
    files: Mapping[str, bytes] = {}
    archive = ""

    @abstractmethod
    def peer(self) -> Peer:
        """Return a connection to the archive."""

    def is_name(self, host: str) -> bool:
        """Return whether the name is one of this machine."""
        return is_loopback(host)

    def page(self) -> Page:
        """Return a file of the viewer or what the archive has."""
        path = urlsplit(self.path).path
        if path.startswith(f"/{ROOT}/"):
            found = self._of_archive(self.path.removeprefix(f"/{ROOT}"))
            return found._replace(headers={**_HEADERS, _POLICY: _OF_DATA})
        headers = {**_HEADERS, _POLICY: _OF_PAGES}
        if path.endswith((".js", ".wasm", ".css")):
            headers["Cache-Control"] = "private, max-age=3600"
        return self._of_viewer(path)._replace(headers=headers)

    def _of_viewer(self, path: str) -> Page:
        name = path.lstrip("/")
        if name not in self.files:
            if "." in name.rpartition("/")[2]:
                return Page(404, "text/plain", b"the viewer has no such file\n")
            name = "index.html"  # a page of the viewer, which routes in the browser
        ending = name[name.rfind(".") :]
        kind = _TYPES.get(ending) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Page(200, kind, self.files[name])

    def _of_archive(self, path: str) -> Page:
        if not _is_read(path):
            return Page(403, "text/plain", b"only studies, series and instances are read here\n")
        headers = {"Accept": self.headers.get("Accept", "*/*")}
        try:
            answer = self.peer().request("GET", path.lstrip("/"), None, headers, None, _FORWARDED)
        except (Unreachable, Rejected) as error:
            return Page(502, "text/plain", f"{error}\n".encode())
        except HilumError:
            return Page(502, "text/plain", b"the archive's answer cannot be passed on\n")
        kind = " ".join(answer.kind.split()) or "text/plain"
        return Page(answer.status, kind, self._here(answer))

    def _here(self, answer: Answer) -> bytes:
        """Return an answer's body with this server's addresses in place of the archive's."""
        if "json" not in answer.kind:
            return answer.body
        own = f"http://{self.headers['Host']}/{ROOT}"
        return answer.body.replace(self.archive.encode(), own.encode())
