"""Start a desk and serve it until it is stopped."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace

from hilum.errors import CannotWrite, MissingExtra
from hilum.serve.preparation import Preparation
from hilum.serve.settings import Settings

_KEEP_ALIVE = 15  # seconds that an idle connection stays open
_MOST_CONNECTIONS = 2000
_WAITING = 512  # connections that are not accepted yet
_GRACE = 5  # seconds that requests have to end when the desk is stopped


def serve(preparation: Preparation, settings: Settings, say: Callable[[str], None]) -> None:
    """Serve a desk; return when it is stopped by Ctrl-C.

    `say` hears the address. Raises `MissingExtra` without the extra [serve], `CannotWrite` where
    the port is taken.
    """
    with MissingExtra.explained("serve", "the desk in the browser"):
        import uvicorn

        from hilum.serve.app import create_app
    with _listening(settings) as listening:
        settings = replace(settings, port=listening.getsockname()[1])
        guard, desk = create_app(preparation, settings)
        preparation.begin()
        for line in greeting(settings, desk.sessions.invite()):
            say(line)
        config = uvicorn.Config(
            guard,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=_GRACE,
            ws="none",
        )
        uvicorn.Server(config).run(sockets=[listening])


def prepare(preparation: Preparation) -> str:
    """Prepare a study without a desk, and say what it holds. Raises `HilumError` where it fails."""
    preparation.begin()
    preparation.wait()
    images = preparation.study.manifest.table.height
    return f"{preparation.run.folder}: {images:,} images are ready; `hilum serve` shows them"


def greeting(settings: Settings, token: str) -> list[str]:
    """Return what is said when a desk opens: its address, and what is unusual about it."""
    lines = []
    if settings.password is None and settings.user_header is None:
        lines.append(f"the desk is open at {settings.address}/?token={token}")
        lines.append("the address works once; the desk makes another for a second browser")
    else:
        lines.append(f"the desk is open at {settings.address}/")
    if not settings.is_local:
        lines.append(
            f"WARNING: it listens on {settings.host}, so other machines can reach patient data"
        )
        if settings.user_header:
            lines.append(
                f"WARNING: whoever sends the header {settings.user_header} is let in; only the "
                "reverse proxy may reach this port"
            )
        elif not settings.address.startswith("https:"):
            lines.append("WARNING: the connection is not encrypted; put a proxy with TLS before it")
    if settings.read_only:
        lines.append("it is read-only: nothing can be changed")
    return [*lines, "stop it with Ctrl-C"]


def _listening(settings: Settings) -> socket.socket:
    """Return the socket of the desk. Raises `CannotWrite` where another program has the port."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With the protocol named, the event loop switches off the delay that small replies would wait.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
        listening.listen(_WAITING)
    except OSError as error:
        listening.close()
        raise CannotWrite(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); choose another "
            "port with --port"
        ) from error
    return listening
