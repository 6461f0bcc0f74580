"""The static files of the pages: read once when the desk starts, and found by their names only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response

KINDS = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webp": "image/webp",
    ".png": "image/png",
}


@dataclass(frozen=True)
class StaticFile:
    """One file: its bytes, kind and digest."""

    data: bytes
    kind: str
    tag: str


def read(folder: Traversable) -> Mapping[str, StaticFile]:
    """Read all files of a folder and those below it whose kind is known."""
    found: dict[str, StaticFile] = {}
    for one in folder.iterdir():
        if one.is_dir():
            found |= {f"{one.name}/{name}": file for name, file in read(one).items()}
            continue
        ending = f".{one.name.rpartition('.')[2]}"
        if ending in KINDS:
            data = one.read_bytes()
            tag = f'"{hashlib.sha256(data).hexdigest()[:24]}"'
            found[one.name] = StaticFile(data, KINDS[ending], tag)
    return found


async def answer(files: Mapping[str, StaticFile], request: Request) -> Response:
    """Answer a static file; a browser that has it already gets no second copy."""
    file = files.get(str(request.path_params["name"]))
    if file is None:
        return Response("there is no such file", 404, media_type="text/plain")
    headers = {"ETag": file.tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=304, headers=headers)
    return Response(file.data, headers=headers, media_type=file.kind)
