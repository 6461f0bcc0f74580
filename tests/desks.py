"""A desk in a test: its application without a socket, and a browser that has come in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from hilum.run_folder import Run

pytest.importorskip("starlette", reason="the desk needs the extra [serve]")
pytest.importorskip("httpx", reason="the desk is tested by httpx, of the extra [test]")

from starlette.testclient import TestClient

from hilum.serve.app import create_app
from hilum.serve.desk import Desk
from hilum.serve.preparation import Preparation
from hilum.serve.settings import Settings

ADDRESS = "http://127.0.0.1:8765"
AUTHOR = "Ann"


@dataclass
class Browser:
    """A browser with a session; `change` sends what a page of the desk sends."""

    client: TestClient
    desk: Desk
    token: str

    def get(self, path: str, **options):
        return self.client.get(path, **options)

    def json(self, path: str, **options):
        answer = self.get(path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def change(self, method: str, path: str, *, headers=None, **options):
        sent = {"Origin": ADDRESS, "X-Hilum-Token": self.token, **(headers or {})}
        return self.client.request(method, path, headers=sent, **options)

    def post(self, path: str, content=None):
        return self.change("POST", path, json=content or {})


@contextmanager
def opened(source: Path, **settings) -> Iterator[Browser]:
    """Open a desk on a run's folder, or a folder of images, and come in as AUTHOR."""
    out = settings.pop("out", None)
    preparation = Preparation.of(source, out)
    guard, desk = create_app(preparation, Settings(**settings))
    preparation.begin()
    preparation.wait()
    with TestClient(guard, base_url=ADDRESS) as client:
        yield come_in(client, desk, AUTHOR)


def come_in(client: TestClient, desk: Desk, author: str = "") -> Browser:
    """Return a browser that has used a one-time address."""
    entered = client.get(f"/?token={desk.sessions.invite()}", follow_redirects=False)
    assert entered.status_code == 303
    browser = Browser(client, desk, client.get("/api/v1/study").json()["token"])
    if author:
        assert browser.post("/api/v1/author", {"name": author}).status_code == 200
    return browser


def another(browser: Browser, author: str) -> Browser:
    """Return a second browser at the same desk, with cookies of its own."""
    client = TestClient(browser.client.app, base_url=ADDRESS)
    return come_in(client, browser.desk, author)


def copied(run: Run, folder: Path) -> Path:
    """Return a copy of a run that a test may change."""
    return Path(shutil.copytree(run.folder, folder / "run"))


def png(labels: np.ndarray) -> bytes:
    """Encode a label map as a grey PNG."""
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(labels, np.uint8)))


def decoded(answer) -> np.ndarray:
    """Decode the image of an answer."""
    assert answer.status_code == 200, answer.text
    return imagecodecs.imread(answer.content)
