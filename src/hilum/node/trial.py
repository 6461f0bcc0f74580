"""Try the connections of a node before it runs: nothing is stored, no film is fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hilum.errors import BadData, HilumError
from hilum.node import web_servers
from hilum.node.http_client import Peer
from hilum.node.orthanc import last_change
from hilum.node.settings import DIMSE, Settings

_JSON = "application/dicom+json"


def trials(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield for each connection what it is, and what is wrong with it, "" for nothing.

    Servers are searched for one study, a DICOM destination answers C-ECHO, and of the node's own
    port the certificates and the hosts of `allowed_callers` are examined.
    """
    if settings.orthanc:
        orthanc = web_servers.rest_of(settings.orthanc, settings)
        fault = _fault(lambda: last_change(orthanc.connect()))
        yield f"[source.orthanc] changes of {orthanc.url}", fault
    for section, server in web_servers.servers(settings).items():
        connect = server.connect
        yield f"[{section}] DICOMweb at {server.url}", _fault(lambda of=connect: _search(of()))
    if settings.listen or settings.destination.to == DIMSE:
        yield from _of_dimse(settings)


def _of_dimse(settings: Settings) -> Iterator[tuple[str, str]]:
    from hilum.node import dimse

    to, listen = settings.destination, settings.listen
    if listen:
        yield "[listen] certificates and callers", _fault(lambda: dimse.examine(listen))
    if to.to == DIMSE:
        fault = _fault(lambda: dimse.echo(to, settings.limits.request_seconds))
        yield f"[destination] C-ECHO of {to.ae_title} at {to.host}:{to.port}", fault


def _fault(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except HilumError as error:
        return str(error)
    return ""


def _search(peer: Peer) -> None:
    found = peer.get("studies?limit=1", Accept=_JSON).json()
    if not isinstance(found, list | None):
        raise BadData("it answers with something else than a list of studies (QIDO-RS)")
