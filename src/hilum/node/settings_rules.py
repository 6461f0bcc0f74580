"""What settings of a node cannot be meant: out of range, missing, or given where they do nothing.

A key that would have no effect is refused like a wrong one: whoever gives the certificate of a
connection, or the password of a user, takes it for granted that it is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from hilum.errors import unknown
from hilum.node.settings import (
    DESTINATIONS,
    DICOMWEB,
    DIMSE,
    SOURCE,
    Destination,
    DicomWeb,
    Limits,
    Listen,
    Orthanc,
    Settings,
)
from hilum.node.visits import LONGEST_PAUSE
from hilum.safety import web

_FILES = ("password_file", "token_file", "ca", "certificate", "key", "site")
_LEAST_FREE = 8 << 20
_LONGEST_TITLE = 16  # characters of an AE title (PS3.5 6.2)
_MOST_DAYS = 3650
_MOST_SECONDS = 3600.0  # of a poll, of stability, of silence
# Without days in the journal, the node would not know its own results.
_POSITIVE = (
    "object_bytes", "state_bytes", "pending", "attempts", "request_seconds", "keep_days"
)  # fmt: skip
# The keys of [destination] that each way of sending uses.
_USED = {
    SOURCE: ("to",),
    DICOMWEB: ("to", "url", "user", "password_file", "token_file", "ca"),
    DIMSE: (
        "to",
        "host",
        "port",
        "ae_title",
        "calling_ae_title",
        "tls",
        "certificate",
        "key",
        "ca",
    ),
}


def faults(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each setting that cannot be meant."""
    sources = {"orthanc": settings.orthanc, "dicomweb": settings.dicomweb}
    used = {name: one for name, one in sources.items() if one}
    if not used and not settings.listen:
        yield "no source is given; add [source.orthanc], [source.dicomweb] or [listen]"
    for name, one in used.items():
        yield from _server_faults(f"source.{name}", one)
        if not 0.05 <= one.poll_seconds <= _MOST_SECONDS:
            yield f"[source.{name}] poll_seconds must be 0.05 to 3600, got {one.poll_seconds}"
    if settings.dicomweb:
        yield from _stability_faults(settings.dicomweb)
    if settings.listen:
        yield from _listen_faults(settings.listen)
    yield from _destination_faults(settings)
    yield from _limit_faults(settings.limits)
    if not 0 <= settings.monitor.port <= 65535:
        yield f"[monitor] port must be 0 to 65535, got {settings.monitor.port}"
    sections = {f"source.{name}": one for name, one in used.items()}
    sections |= {"listen": settings.listen, "destination": settings.destination}
    for name, section in {
        **sections,
        "monitor": settings.monitor,
        "models": settings.models,
    }.items():
        yield from _file_faults(name, section)
    if settings.models.run and (settings.models.names or settings.models.site):
        yield "[models] run has models and thresholds of its own; leave out names and site"


def _server_faults(section: str, of: Orthanc | DicomWeb | Destination) -> Iterator[str]:
    """Yield what is wrong with the address and the credentials of a server over HTTP."""
    if wrong := web.fault_of_address(of.url):
        yield f"[{section}] url {wrong}"
    elif of.ca and of.url.startswith("http:"):
        yield f"[{section}] ca does nothing for an address with http; use https"
    if bool(of.user) != bool(of.password_file):
        yield f"[{section}] user and password_file need each other"
    if ":" in of.user:
        yield f"[{section}] user must hold no colon (RFC 7617), got {of.user!r}"
    if of.user and not isinstance(of, Orthanc) and of.token_file:
        yield f"[{section}] give either user and password_file, or token_file"


def _stability_faults(of: DicomWeb) -> Iterator[str]:
    if not 0 <= of.stable_seconds <= _MOST_SECONDS:
        yield f"[source.dicomweb] stable_seconds must be 0 to 3600, got {of.stable_seconds}"
    if not 0 <= of.days <= _MOST_DAYS:
        yield f"[source.dicomweb] days must be 0 to {_MOST_DAYS}, got {of.days}"


def _listen_faults(listen: Listen) -> Iterator[str]:
    for title in (listen.ae_title, *(one.ae_title for one in listen.allowed_callers)):
        yield from _title_faults("listen", title)
    if not listen.allowed_callers:
        yield (
            "[listen] allowed_callers is empty, so nobody may send; name who may, as "
            'allowed_callers = [{ae_title = "PACS", host = "10.0.0.5"}]'
        )
    if not 0 <= listen.port <= 65535:
        yield f"[listen] port must be 0 to 65535, got {listen.port}"
    if bool(listen.certificate) != bool(listen.key) or (listen.ca and not listen.key):
        yield "[listen] TLS needs both certificate and key"


def _title_faults(section: str, title: str) -> Iterator[str]:
    fits = title.isascii() and title.isprintable() and "\\" not in title
    if not title.strip() or len(title) > _LONGEST_TITLE or not fits:
        yield (
            f"[{section}] an AE title must have 1 to {_LONGEST_TITLE} ASCII characters without "
            f"a backslash, got {title!r}"
        )


def _destination_faults(settings: Settings) -> Iterator[str]:
    to = settings.destination
    if to.to not in DESTINATIONS:
        yield f"[destination] {unknown('destination', to.to, DESTINATIONS)}"
        return
    given = [part.name for part in fields(to) if getattr(to, part.name) != part.default]
    if idle := [name for name in given if name not in _USED[to.to]]:
        yield (
            f"[destination] {', '.join(idle)} would do nothing where to = {to.to!r}; leave out, or "
            f"choose another of {', '.join(DESTINATIONS)}"
        )
    if to.to == SOURCE and settings.listen:
        yield (
            "[destination] to must be 'dicomweb' or 'dimse' where [listen] receives films, since "
            "their sender need not be an archive"
        )
    if to.to == DICOMWEB:
        yield from _server_faults("destination", to)
    if to.to == DIMSE:
        yield from _peer_faults(to)


def _peer_faults(to: Destination) -> Iterator[str]:
    yield from _title_faults("destination", to.ae_title)
    yield from _title_faults("destination", to.calling_ae_title)
    if not to.host:
        yield "[destination] host is missing: where results are stored by C-STORE"
    if not 0 < to.port <= 65535:
        yield f"[destination] port must be 1 to 65535, got {to.port}"
    if bool(to.certificate) != bool(to.key):
        yield "[destination] certificate and key need each other"
    if (to.certificate or to.ca) and not to.tls:
        yield "[destination] certificate, key and ca do nothing without tls = true"


def _limit_faults(limits: Limits) -> Iterator[str]:
    for part in fields(limits):
        value = getattr(limits, part.name)
        if not math.isfinite(value) or value < 0 or (part.name in _POSITIVE and value == 0):
            yield f"[limits] {part.name} must be above 0, got {value}"
    if limits.request_seconds > _MOST_SECONDS:
        yield f"[limits] request_seconds must be at most 3600, got {limits.request_seconds}"
    if limits.longest_retry_seconds > LONGEST_PAUSE:
        yield (
            f"[limits] longest_retry_seconds must be at most {LONGEST_PAUSE:.0f}, got "
            f"{limits.longest_retry_seconds}"
        )
    if 0 <= limits.free_bytes < _LEAST_FREE:
        # Films that fill the disk could not be read, and so would never leave it.
        yield (
            f"[limits] free_bytes must be at least {_LEAST_FREE}, since results need room, got "
            f"{limits.free_bytes}"
        )


def _file_faults(section: str, of: object) -> Iterator[str]:
    for name in _FILES:
        place = getattr(of, name, "")
        try:
            there = not place or Path(place).is_file()
        except OSError:  # a folder that may not be entered
            there = False
        if not there:
            yield f"[{section}] {name}: there is no file at {place}, or it may not be seen"
