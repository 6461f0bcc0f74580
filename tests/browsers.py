"""A real browser at a desk that runs as a process of its own, as a reader has it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the desk needs the extra [serve]")
pytest.importorskip("playwright", reason="needs Playwright's package, of the extra [test]")

from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = (
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
WITHIN_MS = 30_000  # that a page may take to show what a test waits for, on a busy machine


@contextmanager
def launched() -> Iterator[Browser]:
    """Start Chromium; skip the test that asked for it where there is none."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        yield browser
        browser.close()


@dataclass
class Reader:
    """One reader's browser: a page, and what went wrong or left the machine in it."""

    page: Page
    faults: list[str] = field(default_factory=list)

    def listen(self) -> None:
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("request", self._stays_here)

    def _stays_here(self, request) -> None:
        if not re.match(r"(http://127\.0\.0\.1:\d+/|blob:|data:)", request.url):
            self.faults.append(f"request outside the machine: {request.url}")

    def named(self, name: str) -> None:
        """Enter the name that the desk asks for at the first visit."""
        sheet = self.page.locator("#author-sheet")
        sheet.wait_for()
        sheet.get_by_label("Name").fill(name)
        sheet.get_by_role("button", name="Keep").click()
        self.page.locator("#author b", has_text=name).wait_for()


@dataclass
class Desk:
    """A running `hilum serve`."""

    process: subprocess.Popen
    address: str  # with the one-time token
    chromium: Browser

    @property
    def base(self) -> str:
        return self.address.partition("/?")[0]

    @contextmanager
    def reader(self, name: str, address: str | None = None, **context) -> Iterator[Reader]:
        """Come in as a reader in a browser of its own; a fault of a page fails the test."""
        opened = self.chromium.new_context(viewport={"width": 1400, "height": 900}, **context)
        opened.set_default_timeout(WITHIN_MS)
        reader = Reader(opened.new_page())
        reader.listen()
        reader.page.goto(address or self.address)
        reader.named(name)
        yield reader
        opened.close()
        assert reader.faults == []


@contextmanager
def served(source: Path, chromium: Browser, *options: str) -> Iterator[Desk]:
    """Serve a run or a folder by the command line until the test is done with it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hilum", "serve", str(source), "--port", "0", *options],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        said = iter(process.stdout.readline, "")
        address = next(found[0] for line in said if (found := re.search(r"http://\S+", line)))
        yield Desk(process, address, chromium)
    finally:
        process.terminate()
        process.wait(timeout=20)
        process.stdout.close()
