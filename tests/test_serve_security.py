"""Whoever is not a reader gets nothing, and what is hostile stays text."""

from __future__ import annotations

import asyncio
import re
import struct
import time
import zlib

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the desk needs the extra [serve]")

from starlette.testclient import TestClient

from hilum.errors import BadRecipe
from hilum.imaging import synthetic
from hilum.serve import api, guard, pages
from hilum.serve.app import create_app
from hilum.serve.desk import SLOW
from hilum.serve.preparation import Preparation
from hilum.serve.sessions import Sessions
from hilum.serve.settings import Limits, Settings
from tests import desks

SCRIPT = "<script>alert(1)</script>"
CHANGES = [route for route in api.ROUTES if route.method != "GET"]


@pytest.fixture(scope="module")
def desk(small_run, tmp_path_factory):
    folder = desks.copied(small_run, tmp_path_factory.mktemp("desk"))
    limits = Limits(upload_bytes=1 << 20, mask_bytes=1 << 16, json_bytes=1 << 12)
    with desks.opened(folder, limits=limits) as browser:
        yield browser


def stranger(browser) -> TestClient:
    return TestClient(browser.client.app, base_url=desks.ADDRESS)


def filled(path: str) -> str:
    for name, value in {"row": "1", "number": "1", "kind": "reference", "file": "film"}.items():
        path = path.replace(f"{{{name}}}", value)
    return path.replace("{token}", "x" * 24)


# ------------------------------------------------------------------------------------- coming in


@pytest.mark.parametrize("route", [*api.ROUTES, *pages.ROUTES], ids=lambda one: one.path)
def test_nothing_is_shown_to_one_who_has_not_come_in(desk, route):
    answer = stranger(desk).request(
        route.method, filled(route.path), headers={"Origin": desks.ADDRESS}
    )
    assert answer.status_code == 401
    assert desk.desk.study.manifest.table["image_id"][1] not in answer.text


def test_an_address_lets_one_browser_in_once(desk):
    token = desk.desk.sessions.invite()
    first, second = stranger(desk), stranger(desk)
    entered = first.get(f"/?token={token}&part=test", follow_redirects=False)
    assert (entered.status_code, entered.headers["location"]) == (303, "/?part=test")
    assert second.get(f"/?token={token}", follow_redirects=False).status_code == 401
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert token not in cookie


def test_the_way_in_leads_to_no_other_site(desk):
    token = desk.desk.sessions.invite()
    client = stranger(desk)
    answer = client.get(f"{desks.ADDRESS}//example.org/?token={token}", follow_redirects=False)
    assert not answer.headers.get("location", "/").startswith("//")
    assert 'href="//' not in stranger(desk).get(f"{desks.ADDRESS}//example.org/x").text


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1:1", "example.org:8765", ""])
def test_another_host_is_refused(desk, host):
    answer = desk.get("/api/v1/study", headers={"Host": host})
    assert answer.status_code == 421
    assert "token" not in answer.json()


def test_sessions_end_when_they_are_idle_or_too_many(monkeypatch):
    sessions = Sessions(Settings())
    first = sessions.start()
    assert sessions.of(first) is not None
    for _ in range(300):
        last = sessions.start()
    assert sessions.of(first) is None
    later = time.monotonic() + 13 * 3600
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert sessions.of(last) is None


# -------------------------------------------------------------------------- Origin, token, method


@pytest.mark.parametrize("route", CHANGES, ids=lambda one: f"{one.method} {one.path}")
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://example.org"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1:9999"},
        {"X-Hilum-Token": ""},
        {"X-Hilum-Token": "x" * 43},
    ],
    ids=["other site", "null", "no origin", "other port", "no token", "wrong token"],
)
def test_a_forged_change_is_refused(desk, route, headers):
    answer = desk.change(route.method, filled(route.path), headers=headers)
    assert answer.status_code == 403
    assert desk.json("/api/v1/study")["last_revision"] == 0


def test_the_token_of_another_session_is_of_no_use(desk):
    other = desks.another(desk, "")
    answer = desk.change("POST", "/api/v1/author", headers={"X-Hilum-Token": other.token})
    assert answer.status_code == 403


@pytest.mark.parametrize("route", [one for one in CHANGES if one.changes], ids=lambda one: one.path)
def test_a_read_only_desk_refuses_every_change(small_run, route):
    preparation = Preparation.of(small_run.folder, None)
    app, made = create_app(preparation, Settings(read_only=True))
    with TestClient(app, base_url=desks.ADDRESS) as client:
        browser = desks.come_in(client, made)
        answer = browser.change(route.method, filled(route.path))
    assert answer.status_code == 403
    assert "read-only" in answer.json()["error"]
    assert not (small_run.folder / "annotations").exists()


def test_other_methods_are_refused(desk):
    for method in ("PATCH", "OPTIONS", "TRACE", "PUT"):
        assert desk.change(method, "/api/v1/images").status_code == 405


# --------------------------------------------------------------------------------------- headers


@pytest.mark.parametrize("path", ["/", "/api/v1/study", "/api/v1/images/1/thumbnail", "/none"])
def test_nothing_of_patients_is_kept_and_nothing_comes_from_elsewhere(desk, path):
    headers = desk.get(path).headers
    assert headers["cache-control"] == "no-store"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http:" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_no_page_has_a_script_or_style_of_its_own(desk):
    for route in pages.ROUTES:
        text = desk.get(filled(route.path)).text
        scripts = re.findall(r"<script(?![^>]*\b(?:src=|type=\"application/json\"))", text)
        assert not scripts, route.path
        assert "<style" not in text
        assert not re.search(r"\s(?:on\w+|style)=\"", text), route.path
        assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text), route.path


def test_static_files_are_found_by_name_only(desk):
    known = desk.get("/static/htmx.min.js")
    assert known.status_code == 200
    again = desk.get("/static/htmx.min.js", headers={"If-None-Match": known.headers["etag"]})
    assert again.status_code == 304
    for name in ("../app.py", "..%2fapp.py", "%2e%2e/app.py", "/etc/passwd", "sub/../../app.py"):
        assert desk.get(f"/static/{name}").status_code in (401, 404)


# ------------------------------------------------------------------------------- paths and values


@pytest.mark.parametrize(
    "value",
    [
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "%00",
        "1;2",
        "-1",
        "1e3",
        "٣",
        "9" * 400,
        "1%0a",
    ],
)
def test_an_id_is_a_number_or_nothing(desk, value):
    for path in (f"/api/v1/images/{value}", f"/api/v1/images/{value}/pixels", f"/images/{value}"):
        answer = desk.get(path)
        assert answer.status_code in (404, 422), path
        assert "root:" not in answer.text


@pytest.mark.parametrize(
    "query",
    [
        {"sort": "score."},
        {"sort": "nothing"},
        {"label": "tuberculosis"},
        {"label": ":present"},
        {"mask": "../x"},
        {"limit": "1000000"},
        {"offset": "-1"},
        {"cell": "tuberculosis:tp:nan"},
        {"q": "x" * 1000},
        {"part": "\x00"},
        {"disagreement": "yes"},
        {"sort": ["path", "patient"]},
    ],
    ids=str,
)
def test_a_wrong_filter_is_refused_with_what_was_expected(desk, query):
    answer = desk.get("/api/v1/images", params=query)
    assert answer.status_code == 422
    assert answer.json()["error"]
    assert answer.json()["remedy"]


def test_text_that_is_searched_is_no_pattern(desk):
    for text in (".*", "(?i)chn", "[a-", "\\", "^", "a{99999}"):
        assert desk.json("/api/v1/images", params={"q": text})["total"] == 0


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"[" * 3000, b'{"name": NaN}', b'{"name": 1}', b'{"nom": "x"}']
    + [b'{"name": "\\u0000"}', b'{"name": ""}', b'{"name": "' + b"x" * 900 + b'"}', b"\xff\xfe"],
    ids=lambda body: repr(body[:20]),
)
def test_a_wrong_body_is_refused(desk, body):
    answer = desk.change("POST", "/api/v1/author", content=body)
    assert answer.status_code == 422
    assert answer.json()["error"]


# ------------------------------------------------------------------------------- script in the data


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A desk on a folder whose names, patients, labels and report texts are script."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "data").mkdir()
    lines = ["file,patient,finding,report"]
    for number in range(4):
        name = f"film{number} <img src=x onerror=alert(1)>.png"
        rng = np.random.default_rng(number)
        made = synthetic.draw(synthetic.anatomy(rng), rng, height=96, width=96)
        (folder / "data" / name).write_bytes(desks.png(made.pixels.astype("uint8")))
        finding = f"shadow {SCRIPT}" if number % 2 else "normal"
        lines.append(f'{name},p{number}{SCRIPT},{finding},"No effusion. {SCRIPT}"')
    (folder / "data" / "table.csv").write_text("\n".join(lines) + "\n")
    (folder / "data" / "hilum.toml").write_text('normal = ["normal"]\n')
    with desks.opened(folder / "data", out=folder / "run") as browser:
        yield browser


def test_script_in_names_labels_and_reports_stays_text(hostile):
    assert hostile.json("/api/v1/images")["total"] == 4
    hostile.post("/api/v1/author", {"name": SCRIPT})
    sent = {"concept": "pneumonia", "state": "present", "reason": SCRIPT, "expected": 0}
    assert hostile.post("/api/v1/images/0/labels", sent).status_code == 201
    for route in pages.ROUTES:
        text = hostile.get(filled(route.path), params={"q": "<script>"}).text
        data = re.sub(
            r'<script type="application/json"[^>]*>.*?</script>', "", text, flags=re.DOTALL
        )
        assert "<script>alert" not in text, route.path
        assert "<img src=x" not in text, route.path
        assert "onerror=alert(1)>" not in data.replace("&gt;", ""), route.path


def test_answers_of_the_api_are_never_read_as_pages(hostile):
    answer = hostile.get("/api/v1/images")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"


# -------------------------------------------------------------------------- large and slow requests


def bomb(height: int, width: int) -> bytes:
    """A PNG of some kilobytes that states, and has, very many pixels of one value."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packed = zlib.compress(bytes(min(height * (width + 1), 1 << 20)), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


def test_a_mask_that_would_fill_the_memory_is_refused_before_it_is_decoded(desk):
    answer = desk.change(
        "PUT",
        "/api/v1/images/1/masks/corrected",
        content=bomb(60_000, 60_000),
        headers={"If-Match": '"0"'},
    )
    assert answer.status_code == 422
    assert desk.json("/api/v1/study")["last_revision"] == 0


def test_a_film_that_would_fill_the_memory_is_refused(desk):
    answer = desk.change("POST", "/api/v1/try", files={"file": ("a.png", bomb(100_000, 100_000))})
    assert answer.status_code == 422
    assert "/tmp" not in answer.text


def test_what_is_larger_than_the_limit_is_refused(desk):
    large = b"x" * (3 << 20)
    film = desk.change("POST", "/api/v1/try", files={"file": ("a.png", large)})
    mask = desk.change(
        "PUT", "/api/v1/images/1/masks/corrected", content=large, headers={"If-Match": '"0"'}
    )
    text = desk.change("POST", "/api/v1/author", content=b'{"name": "' + large + b'"}')
    assert [film.status_code, mask.status_code, text.status_code] == [413] * 3


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n" + b"\0" * 100])
def test_a_file_that_is_no_film_is_refused_by_name_only(desk, content):
    answer = desk.change("POST", "/api/v1/try", files={"file": ("a.png", content)})
    assert answer.status_code == 422
    assert "/tmp" not in answer.text


def test_a_form_without_a_film_or_with_several_is_refused(desk):
    none = desk.change("POST", "/api/v1/try", data={"file": "text"})
    several = desk.change("POST", "/api/v1/try", files=[("file", ("a", b"1")), ("b", ("b", b"2"))])
    assert (none.status_code, several.status_code) == (422, 422)


def test_a_body_that_does_not_come_is_not_waited_for():
    async def never():
        await asyncio.sleep(60)

    with pytest.raises(guard.Refusal) as refused:
        asyncio.run(guard.body_of(never, 10, 0.01))
    assert refused.value.status == 408


def test_a_reader_who_stalls_frees_its_place_for_others(small_run):
    limits = Limits(images_at_once=1, images_per_session=1, chunk_seconds=0.05)
    preparation = Preparation.of(small_run.folder, None)
    app, made = create_app(preparation, Settings(limits=limits, read_only=True))
    preparation.begin()
    preparation.wait()
    cookie = made.sessions.start()
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/api/v1/images/1/pixels",
        "raw_path": b"/api/v1/images/1/pixels",
        "query_string": b"",
        "scheme": "http",
        "http_version": "1.1",
        "server": ("127.0.0.1", 8765),
        "headers": [(b"host", b"127.0.0.1:8765"), (b"cookie", f"hilum-8765={cookie}".encode())],
    }

    async def receive():
        await asyncio.sleep(30)
        return {"type": "http.disconnect"}

    async def stalling(message):
        if message["type"] == "http.response.body":
            await asyncio.sleep(30)

    async def both():
        received = []

        async def reading(message):
            received.append(message)

        slow = asyncio.create_task(app(dict(scope), receive, stalling))
        await asyncio.sleep(0.01)
        await asyncio.wait_for(app(dict(scope), receive, reading), 20)
        await asyncio.wait_for(slow, 20)
        return received

    received = asyncio.run(both())
    made.close()
    assert received[0]["status"] == 200
    assert sum(len(one.get("body", b"")) for one in received) > 1000


def test_a_slow_request_holds_up_no_quick_one(desk, monkeypatch):
    async def run():
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def slow():
            loop.call_soon_threadsafe(begun.set)
            time.sleep(0.3)

        jobs = [asyncio.create_task(desk.desk.work(slow, SLOW)) for _ in range(6)]
        await begun.wait()
        await desk.desk.work(lambda: None)
        waiting = [one for one in jobs if not one.done()]
        await asyncio.gather(*jobs)
        return len(waiting)

    assert asyncio.run(run()) >= 5


def test_work_that_takes_too_long_is_answered(small_run):
    limits = Limits(seconds=0.05)
    preparation = Preparation.of(small_run.folder, None)
    _, made = create_app(preparation, Settings(limits=limits))

    async def run():
        await made.work(lambda: time.sleep(0.3))

    with pytest.raises(guard.Refusal) as refused:
        asyncio.run(run())
    made.close()
    assert refused.value.status == 503


# --------------------------------------------------------------------------------- remote binding


def test_other_machines_are_let_in_only_with_a_password_or_a_proxy():
    for host in ("0.0.0.0", "192.168.1.5", "::"):
        with pytest.raises(BadRecipe, match="--password-file"):
            Settings(host=host)
    with pytest.raises(BadRecipe, match="characters"):
        Settings(host="0.0.0.0", password="short")
    assert Settings(host="0.0.0.0", password="long enough a word").password
    assert Settings(host="::1").is_local


@pytest.fixture
def remote(small_run):
    preparation = Preparation.of(small_run.folder, None)
    settings = Settings(host="0.0.0.0", password="long enough a word", read_only=True)
    app, made = create_app(preparation, settings)
    preparation.begin()
    preparation.wait()
    with TestClient(app, base_url="http://desk.example.org:8765") as client:
        yield client
    made.close()


def test_a_password_lets_in_and_a_wrong_one_does_not(remote):
    origin = {"Origin": "http://desk.example.org:8765"}
    assert remote.get("/api/v1/study").status_code == 401
    wrong = remote.post("/sign-in", data={"password": "a guess"}, headers=origin)
    assert wrong.status_code == 403
    forged = remote.post(
        "/sign-in", data={"password": "long enough a word"}, headers={"Origin": "http://evil.org"}
    )
    assert forged.status_code == 403
    right = remote.post(
        "/sign-in",
        data={"password": "long enough a word"},
        headers=origin,
        follow_redirects=False,
    )
    assert right.status_code == 303
    assert remote.get("/api/v1/study").status_code == 200


def test_passwords_cannot_be_guessed_quickly(remote):
    origin = {"Origin": "http://desk.example.org:8765"}
    answers = [
        remote.post("/sign-in", data={"password": f"guess {one}"}, headers=origin).status_code
        for one in range(7)
    ]
    assert answers == [403] * 5 + [429] * 2


def test_behind_a_proxy_the_person_is_whom_the_proxy_names(small_run):
    preparation = Preparation.of(small_run.folder, None)
    settings = Settings(host="0.0.0.0", user_header="X-Remote-User", read_only=True)
    app, made = create_app(preparation, settings)
    with TestClient(app, base_url="http://desk.example.org") as client:
        assert client.get("/api/v1/study").status_code == 401
        named = {"X-Remote-User": "ann"}
        assert client.get("/", headers=named).status_code == 200
        assert client.get("/api/v1/study", headers=named).json()["author"] == "ann"
        other = client.get("/api/v1/study", headers={"X-Remote-User": "ben"})
        assert other.json()["author"] == "ben"
    made.close()
