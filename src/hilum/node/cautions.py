"""What settings allow and a hospital may not want: patients' data without TLS, open secrets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from hilum.node.settings import DICOMWEB, DIMSE, Settings
from hilum.safety.loopback import is_loopback


def cautions(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each connection beyond this machine that is not encrypted, or open to
    anyone, and for each secret that other users of this machine can read.
    """
    to = settings.destination
    urls = {
        "[source.orthanc]": settings.orthanc.url if settings.orthanc else "",
        "[source.dicomweb]": settings.dicomweb.url if settings.dicomweb else "",
        "[destination]": to.url if to.to == DICOMWEB else "",
    }
    for section, url in urls.items():
        parts = urlsplit(url)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            yield (
                f"WARNING: {section} films, results and passwords go to {parts.hostname} "
                f"unencrypted; use https"
            )
    if to.to == DIMSE and not to.tls and not is_loopback(to.host):
        yield f"WARNING: [destination] results go to {to.host} unencrypted; set tls = true"
    listen = settings.listen
    if listen and not listen.certificate and not is_loopback(listen.host):
        yield "WARNING: [listen] films come unencrypted; set certificate and key"
    anywhere = [one.ae_title for one in listen.allowed_callers if not one.host] if listen else []
    if anywhere and listen and not listen.ca and not is_loopback(listen.host):
        yield (
            f"WARNING: [listen] {', '.join(anywhere)} may call from any host, and an AE title is "
            f"no secret; set their host, or ca for certificates"
        )
    yield from _open_secrets(settings)


def _open_secrets(settings: Settings) -> Iterator[str]:
    sections = (settings.orthanc, settings.dicomweb, settings.listen, settings.destination)
    places = {
        getattr(section, name, "")
        for section in (*sections, settings.monitor)
        for name in ("password_file", "token_file", "key")
    }
    for place in sorted(filter(None, places)):
        if Path(place).stat().st_mode & 0o007:
            yield f"WARNING: {place} is readable by every user of this machine; use `chmod 640`"
