"""The DICOMweb servers that settings name, and connections to them."""

from __future__ import annotations

from dataclasses import dataclass

from hilum.node.http_client import Peer
from hilum.node.settings import DICOMWEB, Destination, DicomWeb, Orthanc, Settings
from hilum.safety.secret_files import secret
from hilum.safety.web import Login

Section = Orthanc | DicomWeb | Destination


@dataclass(frozen=True)
class WebServer:
    """A server by the root of its services, the section that names it, and seconds of silence."""

    url: str
    of: Section
    seconds: float

    def connect(self) -> Peer:
        """Return a connection. Raises `BadData` or `CannotRead` for secrets and certificates."""
        token_file = "" if isinstance(self.of, Orthanc) else self.of.token_file
        password = secret(self.of.password_file) if self.of.password_file else ""
        token = secret(token_file) if token_file else ""
        login = Login(self.of.user, password, token, self.of.ca)
        return Peer(self.url, login, self.seconds)


def servers(settings: Settings) -> dict[str, WebServer]:
    """Return the DICOMweb servers by their section; that to which results go stands first."""
    to, orthanc, web = settings.destination, settings.orthanc, settings.dicomweb
    found: dict[str, tuple[str, Section]] = {}
    if to.to == DICOMWEB:
        found["destination"] = (to.url, to)
    if orthanc:
        root = f"{orthanc.url.rstrip('/')}/{orthanc.dicomweb.strip('/')}"
        found["source.orthanc"] = (root, orthanc)
    if web:
        found["source.dicomweb"] = (web.url, web)
    seconds = settings.limits.request_seconds
    return {name: WebServer(url.rstrip("/"), of, seconds) for name, (url, of) in found.items()}


def rest_of(orthanc: Orthanc, settings: Settings) -> WebServer:
    """Return an Orthanc by its own REST interface."""
    return WebServer(orthanc.url, orthanc, settings.limits.request_seconds)
