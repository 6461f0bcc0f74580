"""What a desk is started with: where it listens, who may come in, what it may cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hilum.errors import BadRecipe
from hilum.safety.loopback import is_loopback

LOOPBACK = "127.0.0.1"
PORT = 8765


@dataclass(frozen=True)
class Limits:
    """Bounds on what one request may cost, and on what the desk keeps in memory, in bytes."""

    json_bytes: int = 1 << 20
    mask_bytes: int = 16 << 20
    upload_bytes: int = 64 << 20
    files_in_memory: int = 32 << 20  # decoded image files, each uint8 or uint16
    thumbnails_in_memory: int = 12 << 20
    results_in_memory: int = 64 << 20  # of films that were tried, until they are downloaded
    results_seconds: float = 600.0
    seconds: float = 60.0  # of work for one request
    body_seconds: float = 60.0  # until a request's body must have come
    chunk_seconds: float = 10.0  # that a reader of a response may pause
    slow_bytes_per_second: float = 200_000.0  # below it, after a pause, a reader is cut off
    images_at_once: int = 3  # that are being sent
    images_per_session: int = 2


@dataclass(frozen=True)
class Settings:
    """The settings of one desk.

    `password`: required of everyone, where the desk listens beyond this machine without a proxy.
    `user_header`: the header in which a reverse proxy names the person it has let in.
    `origin`: the address by which browsers know the desk, where a proxy gives it another.
    `compare`: folders of runs that the study's run may be compared with.
    """

    host: str = LOOPBACK
    port: int = PORT
    read_only: bool = False
    password: str | None = None
    user_header: str | None = None
    origin: str | None = None
    compare: tuple[Path, ...] = ()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.is_local and not self.password and not self.user_header:
            raise BadRecipe(
                f"--host {self.host} lets other machines reach patient data, and nothing says who "
                "may; give a password with --password-file FILE, or --behind-proxy HEADER where a "
                "reverse proxy signs people in"
            )
        if self.password is not None and len(self.password) < LEAST_PASSWORD:
            raise BadRecipe(
                f"the password has {len(self.password)} characters; expected at least "
                f"{LEAST_PASSWORD}; write a longer one into the file"
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the desk."""
        return is_loopback(self.host)

    @property
    def address(self) -> str:
        """The desk's address in a browser of this machine, without a path."""
        if self.origin:
            return self.origin
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


LEAST_PASSWORD = 12  # characters
