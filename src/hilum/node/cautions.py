"""What settings allow and a hospital may not want: connections of patients' data without TLS."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from hilum.node.settings import DICOMWEB, DIMSE, Settings, is_local


def cautions(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each connection beyond this machine that is not encrypted."""
    to = settings.destination
    urls = {
        "[source.orthanc]": settings.orthanc.url if settings.orthanc else "",
        "[source.dicomweb]": settings.dicomweb.url if settings.dicomweb else "",
        "[destination]": to.url if to.to == DICOMWEB else "",
    }
    for section, url in urls.items():
        parts = urlsplit(url)
        if parts.scheme == "http" and not is_local(parts.hostname or ""):
            yield (
                f"WARNING: {section} films, results and passwords go to {parts.hostname} "
                f"unencrypted; use https"
            )
    if to.to == DIMSE and not to.tls and not is_local(to.host):
        yield f"WARNING: [destination] results go to {to.host} unencrypted; set tls = true"
    listen = settings.listen
    if listen and not listen.certificate and not is_local(listen.host):
        yield "WARNING: [listen] films come unencrypted; set certificate and key"
