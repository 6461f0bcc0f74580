"""OHIF beside a node: as npm published it, for this machine alone, with nothing from elsewhere; and
it shows the lungs and the regions.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import os
import re
import tarfile
from pathlib import Path

import cv2
import dicom_sources
import numpy as np
import pytest
from conftest import hilum
from web_servers import answering

from benchmarks._lib import orthanc
from hilum.errors import BadData, BadRecipe, CannotRead, CannotWrite, NotFound
from hilum.node import viewer, viewer_package
from hilum.node.http_client import Peer
from hilum.node.settings import Destination, DicomWeb, Orthanc, Settings
from hilum.safety.web import Login

PACKAGE = "HILUM_OHIF_PACKAGE"  # the environment variable with the file of the package
STUDY = "1.2.3.5"
PAGES = {"index.html": b"<html>viewer</html>", "app.js": b"//", "app.js.map": b"{}"}


def packed(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("package/dist/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return stream.getvalue()


# ----------------------------------------------------------------------------------- the package


@pytest.fixture
def package(monkeypatch, tmp_path):
    """A made-up package that counts as the published one."""
    data = packed(
        {
            **{f"package/dist/{name}": body for name, body in PAGES.items()},
            "package/dist/ort/model.wasm": b"x",
            "package/package.json": b"{}",
            "package/dist/../../outside": b"x",
            "/package/dist/absolute": b"x",
        }
    )
    digest = base64.b64encode(hashlib.sha512(data).digest()).decode()
    monkeypatch.setattr(viewer_package, "INTEGRITY", f"sha512-{digest}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return data


def test_the_package_is_fetched_once_from_the_configured_registry(package, monkeypatch):
    calls = []

    def registry(path, headers):
        calls.append(path)
        return 200, {}, package

    with answering(registry) as url:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"{url}/npm/")
        first, second = viewer_package.files(), viewer_package.files()
    assert first == second and set(first) == {"index.html", "app.js"}
    assert calls == [f"/npm/@ohif/app/-/app-{viewer_package.VERSION}.tgz"]


def test_another_file_is_refused_wherever_it_comes_from(package, monkeypatch, tmp_path):
    changed = tmp_path / "app.tgz"
    changed.write_bytes(package[:-1] + b"x")
    with pytest.raises(BadData, match="digest is another"):
        viewer_package.files(changed)
    with answering(lambda path, headers: (200, {}, changed.read_bytes())) as url:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", url)
        with pytest.raises(BadData, match="digest is another"):
            viewer_package.files()
    assert not (viewer_package.cache_folder() / viewer_package.FILE).exists()
    changed.write_bytes(package)
    assert viewer_package.files(changed)["index.html"] == PAGES["index.html"]


def test_a_registry_without_it_says_what_to_do(package, monkeypatch):
    with answering(lambda path, headers: (404, {}, b"")) as url:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", url)
        with pytest.raises(NotFound, match="npm pack"):
            viewer_package.files()
    with pytest.raises(CannotRead, match="npm pack"):
        viewer_package.files()


# ------------------------------------------------------------------------------------ the server


@pytest.fixture
def served():
    """The viewer's server with made-up files, before an archive that echoes what it gets."""
    calls = []

    def archive(path, headers):
        calls.append((path, dict(headers)))
        text = json.dumps([{"url": f"http://{headers['Host']}/dicom-web/studies/1"}])
        return 200, {"Content-Type": "application/dicom+json"}, text.encode()

    with answering(archive) as url:
        root = f"{url}/dicom-web"
        login = Login("node", "secret")
        with viewer.serving(PAGES, root, lambda: Peer(root, login, 5.0), 0) as port:
            yield port, calls


def ask(port: int, path: str, method: str = "GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_one_address_serves_the_viewer_and_the_archive(served):
    port, calls = served
    assert ask(port, "/")[1] == ask(port, "/viewer?StudyInstanceUIDs=1")[1] == PAGES["index.html"]
    assert ask(port, "/no.js")[0].status == 404
    answer, body = ask(port, "/dicom-web/studies?limit=1", Accept="application/dicom+json")
    assert json.loads(body) == [{"url": f"http://127.0.0.1:{port}/dicom-web/studies/1"}]
    path, headers = calls[0]
    assert path == "/dicom-web/studies?limit=1" and headers["Accept"] == "application/dicom+json"
    assert headers["Authorization"].startswith("Basic "), "the node's credentials"
    assert "secret" not in str(answer.headers)
    settings = ask(port, "/app-config.js")[1].decode()
    assert "dicom-web" in settings and "://" not in settings, "no address but this server's own"


@pytest.mark.parametrize(
    ("path", "method", "headers", "status"),
    [
        ("/", "GET", {"Host": "attacker.example"}, 421),
        ("/dicom-web/studies", "GET", {"Host": "attacker.example:80"}, 421),
        ("/dicom-web/studies", "POST", {}, 501),
        ("/dicom-web/studies/1", "DELETE", {}, 501),
        ("/dicom-web/../instances", "GET", {}, 403),
        ("/dicom-web/studies/../../tools/shutdown", "GET", {}, 403),
        ("/dicom-web/servers", "GET", {}, 403),
        ("/dicom-web/studies/%2e%2e/%2E%2e/tools/shutdown", "GET", {}, 403),
        ("/dicom-web/studies/%252e%252e/servers", "GET", {}, 403),
        ("/dicom-web/studies/..%2f..%2fservers", "GET", {}, 403),
        ("/dicom-web/studies/..;/servers", "GET", {}, 403),
        ("/dicom-web/studies/%5c..%5cservers", "GET", {}, 403),
        ("/dicom-web/studies//evil.example/", "GET", {}, 403),
        ("http://evil.example/dicom-web/studies", "GET", {}, 421),
    ],
)
def test_all_else_is_refused(path, method, headers, status, served):
    port, calls = served
    assert ask(port, path, method, **headers)[0].status == status
    assert not calls


def test_a_page_that_lies_in_the_archive_runs_no_script():
    def archive(path, headers):
        return 200, {"Content-Type": "text/html"}, b"<script>fetch('/dicom-web/studies')</script>"

    with answering(archive) as url:
        root = f"{url}/dicom-web"
        with viewer.serving(PAGES, root, lambda: Peer(root, Login(), 5.0), 0) as port:
            answer, _ = ask(port, "/dicom-web/studies/1/bulkdata/1")
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_pages_may_load_nothing_from_elsewhere(served):
    answer, _ = ask(served[0], "/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "://" not in policy
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"


def test_an_archive_that_is_down_is_said_to_be(served):
    root = "http://127.0.0.1:9/dicom-web"
    with viewer.serving(PAGES, root, lambda: Peer(root, Login(), 1.0), 0) as port:
        assert ask(port, "/dicom-web/studies")[0].status == 502
    taken = viewer.serving(PAGES, root, lambda: Peer(root, Login(), 1.0), served[0])
    with pytest.raises(CannotWrite, match="choose another --port"), taken:
        pass


def test_the_archive_is_that_of_the_results():
    of_orthanc = Orthanc(url="http://127.0.0.1:8042/")
    web = DicomWeb(url="https://pacs/dicom-web")
    to = Destination(to="dicomweb", url="https://results/dicom-web/")
    for settings, url in (
        (Settings(orthanc=of_orthanc), "http://127.0.0.1:8042/dicom-web"),
        (Settings(dicomweb=web), "https://pacs/dicom-web"),
        (Settings(orthanc=of_orthanc, destination=to), "https://results/dicom-web"),
    ):
        assert viewer.archive(settings)[0] == url
    with pytest.raises(BadRecipe, match="names no DICOMweb server"):
        viewer.archive(Settings())


# ----------------------------------------------------------------------------------- in a browser

WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")


@pytest.fixture
def published() -> Path:
    kept = viewer_package.cache_folder() / viewer_package.FILE
    found = Path(os.environ.get(PACKAGE) or kept)
    if not found.exists():
        pytest.skip(f"OHIF's package is not here: `hilum node viewer` fetches it, or set {PACKAGE}")
    return found


@pytest.fixture
def archive(tmp_path):
    """An Orthanc with a made-up film and its results."""
    if not orthanc.is_there():
        pytest.skip("Orthanc is not installed: apt-get install orthanc orthanc-dicomweb")
    pytest.importorskip("highdicom", reason="needs the extra [dicom]")
    source = dicom_sources.made(tmp_path / "in", "spacing", StudyInstanceUID=STUDY)
    hilum("lungs", source, "-o", tmp_path / "o", "--dicom", tmp_path / "results", "--viewer-compat")
    made = orthanc.Orthanc(tmp_path / "orthanc").start()
    try:
        for path in (source, *sorted((tmp_path / "results").rglob("*.dcm"))):
            made.post("instances", path.read_bytes())
        yield made
    finally:
        made.stop(kill=True)


def coloured(page) -> dict[str, int]:
    """Return how many pixels of the viewport are orange, and cyan: the two segments' colours."""
    shot = page.locator('[data-cy="viewport-pane"]').screenshot()
    blue, green, red = cv2.split(cv2.imdecode(np.frombuffer(shot, np.uint8), 1).astype(int))
    orange, cyan = (red - blue > 50) & (red > green), (blue - red > 50) & (green - red > 30)
    return {"orange": int(orange.sum()), "cyan": int(cyan.sum())}


def test_ohif_shows_lungs_and_regions(published, archive):
    browsers = pytest.importorskip("browsers")
    if browsers.CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    root = f"{archive.url}/dicom-web"
    files = viewer_package.files(published)
    with (
        viewer.serving(files, root, lambda: Peer(root, Login(), 30.0), 0) as port,
        browsers.sync_playwright() as playwright,
    ):
        chromium = playwright.chromium.launch(
            executable_path=browsers.CHROMIUM, args=[*browsers.OPTIONS, *WEBGL]
        )
        reader = browsers.Reader(chromium.new_page(viewport={"width": 1100, "height": 700}))
        reader.listen()
        _lungs_and_regions(reader.page, f"http://127.0.0.1:{port}")
        chromium.close()
    assert reader.faults == []


def _lungs_and_regions(page, base: str) -> None:
    page.set_default_timeout(60_000)
    page.goto(f"{base}/viewer?StudyInstanceUIDs={STUDY}")
    page.get_by_text("Skip all").click()
    page.get_by_text("Confirm and hide").click()
    page.locator('[data-cy="viewport-overlay-bottom-left"]').get_by_text("W:").wait_for()
    before = coloured(page)
    page.locator('[data-cy="panelSegmentation-btn"]').click()
    page.get_by_text("AI lungs").first.dblclick()
    for lung in ("Right lung", "Left lung"):
        page.get_by_text(lung).wait_for()
    page.wait_for_timeout(1000)  # until the canvas is painted
    painted = coloured(page)
    assert painted["orange"] > before["orange"] + 2000, (before, painted)
    assert painted["cyan"] > before["cyan"] + 2000, (before, painted)
    page.get_by_text("AI regions").first.dblclick()
    page.locator("svg.svg-layer text", has_text="Lung").first.wait_for()
    outlines = page.locator("svg.svg-layer :is(path, polyline, line)")
    assert outlines.count() >= 2, "the outline of each lung"
    labels = page.locator("svg.svg-layer text").all_text_contents()
    assert len([one for one in labels if re.search(r"Area: [\d.]+ mm2", one)]) == 2
