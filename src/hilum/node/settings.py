"""What a node is started with: node.toml, in which every key has a default but the sources.

    [node]               state: the folder of the node's journal, films and results
    [source.orthanc]     an Orthanc whose list of changes is polled
    [source.dicomweb]    any DICOMweb server, polled by QIDO-RS
    [listen]             the node's own DICOM port, for C-STORE from `allowed_callers`
    [destination]        where results go: to their film's source, by STOW-RS, or by C-STORE
    [limits]             sizes, numbers and times
    [models]             the models: the bundled ones, or those of a run
    [results]            options of the objects, as of `hilum classify --dicom`
    [monitor]            the address of health, metrics and worklist

Relative paths start from the folder of the file. An unknown section or key is refused with the
nearest name, a value of the wrong kind or out of range too, all faults at once. Secrets stand in
files of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from hilum.config.validation import build_section
from hilum.errors import BadData, BadRecipe, NotFound, unknown
from hilum.safety import untrusted_files
from hilum.storage import JsonObject

SOURCE, DICOMWEB, DIMSE = DESTINATIONS = ("source", "dicomweb", "dimse")
LONGEST_SECRET = 4096  # bytes of a file with a password or token
_LEAST_FREE = 8 << 20
_LONGEST_TITLE = 16  # characters of an AE title (PS3.5 6.2)
Section = TypeVar("Section")


@dataclass(frozen=True)
class Node:
    """The folder of a node's state."""

    state: str = "hilum-node"


@dataclass(frozen=True)
class Orthanc:
    """An Orthanc, by its REST interface; `history` also reads what it holds already.

    `dicomweb` is the path of its DICOMweb plug-in, to which results are stored.
    """

    url: str = ""
    user: str = ""
    password_file: str = ""
    ca: str = ""
    dicomweb: str = "dicom-web"
    poll_seconds: float = 1.0
    history: bool = False


@dataclass(frozen=True)
class DicomWeb:
    """A DICOMweb server by the root of its services.

    A study is read `stable_seconds` after its number of objects last changed, if its date is at
    most `days` ago.
    """

    url: str = ""
    user: str = ""
    password_file: str = ""
    token_file: str = ""
    ca: str = ""
    poll_seconds: float = 5.0
    stable_seconds: float = 10.0
    days: int = 2


@dataclass(frozen=True)
class Caller:
    """A program that may call: its AE title, and where it calls from ("" is anywhere)."""

    ae_title: str = ""
    host: str = ""


@dataclass(frozen=True)
class Listen:
    """The node's DICOM port; with `certificate` and `key` it speaks TLS alone.

    With `ca` it demands a certificate that this authority has signed.
    """

    host: str = "127.0.0.1"
    port: int = 11112
    ae_title: str = "HILUM"
    certificate: str = ""
    key: str = ""
    ca: str = ""
    allowed_callers: tuple[Caller, ...] = ()


@dataclass(frozen=True)
class Destination:
    """Where results go: `to` is one of DESTINATIONS."""

    to: str = SOURCE
    url: str = ""  # from here to token_file: of STOW-RS
    user: str = ""
    password_file: str = ""
    token_file: str = ""
    host: str = ""  # from here to key: of C-STORE
    port: int = 104
    ae_title: str = ""
    calling_ae_title: str = "HILUM"
    tls: bool = False
    certificate: str = ""
    key: str = ""
    ca: str = ""


@dataclass(frozen=True)
class Limits:
    """Bounds of what a node takes in and keeps, and of how often and how fast it tries again."""

    object_bytes: int = 256 << 20
    free_bytes: int = 1 << 30  # that films leave free on the disk, for results among others
    state_bytes: int = 64 << 30  # of films and results that are not sent yet
    pending: int = 2000  # films that are not sent yet
    attempts: int = 8  # to read or to send one film
    retry_seconds: float = 1.0  # after the first failure; twice as long after each further one
    longest_retry_seconds: float = 300.0
    request_seconds: float = 30.0  # of silence from another server
    keep_days: int = 90  # in the journal, after results were sent


@dataclass(frozen=True)
class Models:
    """The models: those of a finished `run`, or the bundled ones, all or those in `names`."""

    run: str = ""
    names: tuple[str, ...] = ()
    site: str = ""


@dataclass(frozen=True)
class Results:
    """Options of the objects, see `hilum.dicom_out.write.Options`."""

    viewer_compat: bool = False
    labelmap: bool = False
    presentation_state: bool = False


@dataclass(frozen=True)
class Monitor:
    """The address of health, metrics and worklist; `port` 0 is any free one.

    The worklist needs the token in `token_file`, without which only this machine sees it.
    """

    host: str = "127.0.0.1"
    port: int = 8043
    token_file: str = ""


@dataclass(frozen=True)
class Settings:
    """All settings of a node; a source that is None is not used."""

    node: Node = Node()
    orthanc: Orthanc | None = None
    dicomweb: DicomWeb | None = None
    listen: Listen | None = None
    destination: Destination = Destination()
    limits: Limits = Limits()
    models: Models = Models()
    results: Results = Results()
    monitor: Monitor = Monitor()
    path: Path = field(default=Path("node.toml"), compare=False)

    @property
    def state(self) -> Path:
        """The folder of the node's state."""
        return Path(self.node.state)

    @classmethod
    def read(cls, path: Path) -> Settings:
        """Read a settings file. Raises `NotFound`, or `BadRecipe` that lists every fault."""
        try:
            tables = untrusted_files.read_toml(path)
        except NotFound:
            raise NotFound(
                f"no settings of a node at {path}; write one as the documentation of `hilum node` "
                f"shows"
            ) from None
        except BadData as error:
            raise BadRecipe(str(error)) from error
        return cls.of_tables(tables, path)

    @classmethod
    def of_tables(cls, tables: Mapping[str, object], path: Path) -> Settings:
        """Return the settings in parsed TOML; `path` is the file. Raises as `read` does."""
        faults: list[str] = []
        built: JsonObject = dict(_sections(tables, faults))
        if not faults:
            built = {"node": Node(), **built}  # whose folder has a place even by default
            made = cls(**{name: _placed(one, path.parent) for name, one in built.items()})
            faults += _faults(made)
            if not faults:
                return replace(made, path=path)
        count = f"{len(faults)} fault{'s' * (len(faults) != 1)}"
        raise BadRecipe("\n  ".join([f"{path}: {count}", *faults]))


_KINDS = {
    "node": Node,
    "destination": Destination,
    "limits": Limits,
    "models": Models,
    "results": Results,
    "monitor": Monitor,
}
_SOURCES = {"orthanc": Orthanc, "dicomweb": DicomWeb}
_FILES = ("state", "password_file", "token_file", "ca", "certificate", "key", "run", "site")
_REQUIRED_FILES = ("password_file", "token_file", "ca", "certificate", "key", "site")


def secret(path: str) -> str:
    """Return the first line of a file with a password or token; "" where `path` is "".

    Raises as every reader of files does, and `BadData` for an empty file.
    """
    if not path:
        return ""
    text = untrusted_files.read_text(path, limit=LONGEST_SECRET)
    if not text.strip():
        raise BadData(f"{path}: is empty; expected a password or token in its first line")
    return text.splitlines()[0].strip()


def is_local(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _sections(tables: Mapping[str, object], faults: list[str]) -> Iterator[tuple[str, object]]:
    for name, values in tables.items():
        if not isinstance(values, Mapping):
            faults.append(f"[{name}] must be a section, got {values!r}")
        elif name == "source":
            for of, inner in values.items():
                if of not in _SOURCES or not isinstance(inner, Mapping):
                    faults.append(f"[source] {unknown('section', of, _SOURCES)}")
                else:
                    yield of, build_section(_SOURCES[of], f"source.{of}", inner, faults)
        elif name == "listen":
            yield name, _listen(values, faults)
        elif name in _KINDS:
            yield name, build_section(_KINDS[name], name, values, faults)
        else:
            faults.append(unknown("section", name, (*_KINDS, "listen", "source")))


def _listen(values: Mapping[str, object], faults: list[str]) -> Listen | None:
    own = {key: value for key, value in values.items() if key != "allowed_callers"}
    built = build_section(Listen, "listen", own, faults)
    listed = values.get("allowed_callers", [])
    if not isinstance(listed, list) or not all(isinstance(one, Mapping) for one in listed):
        faults.append(
            "[listen] allowed_callers must be a list of tables, as "
            f'[{{ae_title = "PACS", host = "10.0.0.5"}}], got {listed!r}'
        )
        return None
    callers = [build_section(Caller, "listen.allowed_callers", one, faults) for one in listed]
    return None if faults else replace(built, allowed_callers=tuple(callers))


def _placed(section: Section, folder: Path) -> Section:
    """Return a section whose relative paths start from a folder."""
    names = {part.name for part in fields(section)} & set(_FILES)  # pyright: ignore
    placed = {
        name: str((folder / getattr(section, name)).absolute())
        for name in names
        if getattr(section, name)
    }
    return replace(section, **placed)  # pyright: ignore


def _faults(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each setting that is out of range, missing or contradicts another."""
    sources = {"orthanc": settings.orthanc, "dicomweb": settings.dicomweb}
    used = {name: one for name, one in sources.items() if one}
    if not used and not settings.listen:
        yield "no source is given; add [source.orthanc], [source.dicomweb] or [listen]"
    for name, one in used.items():
        yield from _url_faults(f"source.{name}", one.url)
        if not 0.05 <= one.poll_seconds <= 3600:
            yield f"[source.{name}] poll_seconds must be 0.05 to 3600, got {one.poll_seconds}"
    if settings.listen:
        yield from _listen_faults(settings.listen)
    yield from _destination_faults(settings, bool(used))
    yield from _limit_faults(settings.limits)
    if not 0 <= settings.monitor.port <= 65535:
        yield f"[monitor] port must be 0 to 65535, got {settings.monitor.port}"
    for section in (*used.values(), settings.listen, settings.destination, settings.monitor):
        yield from _file_faults(section)
    if settings.models.run and (settings.models.names or settings.models.site):
        yield "[models] run has models and thresholds of its own; leave out names and site"


def _url_faults(section: str, url: str) -> Iterator[str]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        yield f"[{section}] url must be an address as https://pacs.example.org/, got {url!r}"
    elif parts.username or parts.password or parts.query or parts.fragment:
        yield (
            f"[{section}] url must hold neither user, password nor query; use user and "
            "password_file"
        )


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


def _destination_faults(settings: Settings, polled: bool) -> Iterator[str]:
    to = settings.destination
    if to.to not in DESTINATIONS:
        yield f"[destination] {unknown('destination', to.to, DESTINATIONS)}"
    if to.to == SOURCE and settings.listen:
        yield (
            "[destination] to must be 'dicomweb' or 'dimse' where [listen] receives films, since "
            "their sender need not be an archive"
        )
    if to.to == DICOMWEB:
        yield from _url_faults("destination", to.url)
    if to.to == DIMSE:
        yield from _title_faults("destination", to.ae_title)
        yield from _title_faults("destination", to.calling_ae_title)
        if not to.host:
            yield "[destination] host is missing: where results are stored by C-STORE"
        if not 0 < to.port <= 65535:
            yield f"[destination] port must be 1 to 65535, got {to.port}"


def _limit_faults(limits: Limits) -> Iterator[str]:
    for part in fields(limits):
        if getattr(limits, part.name) < 0 or (
            part.name in ("object_bytes", "pending", "attempts") and getattr(limits, part.name) < 1
        ):
            yield f"[limits] {part.name} must be above 0, got {getattr(limits, part.name)}"

    if 0 <= limits.free_bytes < _LEAST_FREE:
        # Films that fill the disk could not be read, and so would never leave it.
        yield (
            f"[limits] free_bytes must be at least {_LEAST_FREE}, since results need room, got "
            f"{limits.free_bytes}"
        )


def _file_faults(section: object) -> Iterator[str]:
    for name in _REQUIRED_FILES:
        place = getattr(section, name, "")
        if place and not Path(place).is_file():
            yield f"{name}: there is no file at {place}"
