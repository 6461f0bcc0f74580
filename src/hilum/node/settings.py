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

`hilum.node.settings_file` reads the file. Secrets stand in files of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

SOURCE, DICOMWEB, DIMSE = DESTINATIONS = ("source", "dicomweb", "dimse")


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
