"""Get OHIF's prebuilt viewer: one version of the npm package @ohif/app (MIT), as published.

The package is fetched when someone wants the viewer, from the npm registry that this machine is
configured for, and kept as it came in the user's cache folder; it is never part of Hilum. What
counts is its digest, which npm's registry published: any other file is refused, wherever it came
from. It is not unpacked on the disk: the files that the viewer needs stay in memory, some 50 MB,
without source maps, without the runtime of models that OHIF runs in the browser, and without the
viewer of microscopy.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import urllib.error
from collections.abc import Mapping
from http.client import HTTPResponse
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from hilum import storage
from hilum.errors import BadData, CannotRead, NotFound
from hilum.progress import Progress, quietly
from hilum.safety import untrusted_files, web

NAME, VERSION = "@ohif/app", "3.13.2"
FILE = f"app-{VERSION}.tgz"
INTEGRITY = (  # of npm's registry, as `npm view @ohif/app@3.13.2 dist.integrity` shows it
    "sha512-WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j"
    "4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
)
REGISTRY = "https://registry.npmjs.org"  # where nothing is configured
MOST_BYTES = 128 << 20  # of the package
_MOST_UNPACKED = 256 << 20
_SECONDS = 60.0  # that npm has to answer
_ROOT = PurePosixPath("package/dist")
_UNUSED = ("ort", "dicom-microscopy-viewer", "customizations")
_UNUSED_ENDINGS = (".map", ".txt")
_VARIABLES = ("NPM_CONFIG_REGISTRY", "npm_config_registry")


def cache_folder() -> Path:
    """Return the folder in which the package is kept: of the user, by the XDG rules."""
    top = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(top) / "hilum" / "viewer"


def registry() -> str:
    """Return npm's registry: by its environment variable, by npm itself, or the public one."""
    stated = next((os.environ[name] for name in _VARIABLES if os.environ.get(name)), "")
    if not stated and (npm := shutil.which("npm")):
        answer = subprocess.run(
            [npm, "config", "get", "registry"], capture_output=True, text=True, timeout=_SECONDS
        )
        stated = answer.stdout.strip() if answer.returncode == 0 else ""
    found = stated if urlsplit(stated).scheme in web.SCHEMES else REGISTRY
    return found.rstrip("/")


def files(package: Path | None = None, progress: Progress = quietly) -> Mapping[str, bytes]:
    """Return the viewer's files by their path below its root, such as "index.html".

    `package` is a file that was fetched before, as `npm pack @ohif/app@VERSION` gives it; without
    it, the one in the cache, or else in the registry. Raises `BadData` for a file with another
    digest, `NotFound`, `CannotRead`.
    """
    if package is not None:
        return _unpacked(untrusted_files.read_bytes(package, limit=MOST_BYTES), str(package))
    kept = cache_folder() / FILE
    if kept.exists():
        data = untrusted_files.read_bytes(kept, limit=MOST_BYTES)
        if is_whole(data):
            return _unpacked(data, str(kept))
    address = f"{registry()}/{NAME}/-/{FILE}"
    data = _fetched(address, progress)
    found = _unpacked(data, address)
    storage.write_bytes(kept, data)
    return found


def is_whole(data: bytes) -> bool:
    """Return whether bytes are those of the package, by its digest."""
    digest = base64.b64encode(hashlib.sha512(data).digest()).decode()
    return f"sha512-{digest}" == INTEGRITY


def _fetched(address: str, progress: Progress) -> bytes:
    try:
        with web.opened(address) as answer:
            total = int(answer.headers.get("Content-Length") or 0)
            return _read(answer, total, progress)
    except urllib.error.HTTPError as error:
        raise NotFound(f"{address} answered {error.code}; {_by_hand()}") from error
    except (*web.FAILURES, ValueError) as error:
        raise CannotRead(
            f"{address} does not answer ({web.reason(error)}); {_by_hand()}"
        ) from error


def _by_hand() -> str:
    return (
        f"fetch it where the registry can be reached, by `npm pack {NAME}@{VERSION}`, and name the "
        f"file with --package"
    )


def _read(answer: HTTPResponse, total: int, progress: Progress) -> bytes:
    data = bytearray()
    for block in web.blocks(answer):
        data += block
        progress(len(data), total)
        if len(data) > MOST_BYTES:
            raise BadData(
                f"the answer has more than {MOST_BYTES:,} bytes, so it is not {NAME} {VERSION}; "
                f"{_by_hand()}"
            )
    return bytes(data)


def _unpacked(data: bytes, name: str) -> dict[str, bytes]:
    if not is_whole(data):
        raise BadData(
            f"{name} is not {NAME} {VERSION}: its digest is another than npm published; "
            f"{_by_hand()}"
        )
    found: dict[str, bytes] = {}
    left = _MOST_UNPACKED
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        for member in archive:
            place = _place(member.name)
            if not member.isfile() or place is None:
                continue
            left -= member.size
            stream = archive.extractfile(member)
            if left < 0 or stream is None:
                raise BadData(f"{name} unpacks to more than {_MOST_UNPACKED:,} bytes; {_by_hand()}")
            found[place] = stream.read()
    return found


def _place(member: str) -> str | None:
    """Return the path of a member that is served, below the viewer's root; None for any other."""
    path = PurePosixPath(member)
    outside = not path.is_relative_to(_ROOT) or ".." in path.parts
    if outside or path.suffix in _UNUSED_ENDINGS:
        return None
    inside = path.relative_to(_ROOT)
    return None if inside.parts[0] in _UNUSED else inside.as_posix()
