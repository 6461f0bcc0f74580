"""Load a desk: 200 requests at once, then minutes of a mix of requests, and watch its memory.

    python -m benchmarks.robustness.desk_load --work WORK [--run RUN] [--minutes 10] [--record]

Without --run the desk gets made-up films of 3000 x 2500 pixels of 16 bits; with it, a run of one's
own, of which a copy is served. The mix is what readers do: pages of the worklist, images, their
pixels, thumbnails and masks, labels that are set, masks that are drawn, and now and then a film to
try. Every answer must be what was expected. Memory is the resident set of the desk's process, each
second.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import imagecodecs
import numpy as np

from benchmarks._lib.processes import resident_bytes
from benchmarks._lib.results import machine, record
from hilum.imaging import synthetic
from hilum.imaging.geometry import resize

HEIGHT, WIDTH, FILMS = 3000, 2500, 24
AT_ONCE, CLIENTS = 200, 6
STATES = ("present", "absent", "uncertain")


def make_films(folder: Path) -> None:
    """Write made-up films of 16 bits, as a detector gives them."""
    folder.mkdir(parents=True)
    for number in range(FILMS):
        rng = np.random.default_rng(number)
        drawn = synthetic.draw(synthetic.anatomy(rng), rng, height=600, width=500)
        large = resize(drawn.pixels.astype(np.float32), (HEIGHT, WIDTH)) / 255
        noisy = large * 60_000 + rng.normal(0, 60, large.shape)
        pixels = np.clip(noisy, 0, 65_535).astype(np.uint16)
        (folder / f"film{number:02}.png").write_bytes(imagecodecs.png_encode(pixels, level=1))


@dataclass
class Desk:
    """A desk in a process of its own, and a browser that has come in."""

    process: subprocess.Popen
    client: httpx.AsyncClient
    token: str = ""
    images: int = 0
    concept: str = "pneumonia"
    times: dict[str, list[float]] = field(default_factory=dict)
    answers: Counter = field(default_factory=Counter)

    @property
    def memory_mb(self) -> float:
        """The resident set of the process."""
        return resident_bytes(self.process.pid) / 2**20

    async def ask(self, name: str, method: str, path: str, expected: tuple[int, ...], **options):
        """Send one request, keep how long it took and what came."""
        begun = time.perf_counter()
        answer = await self.client.request(method, path, **options)
        self.times.setdefault(name, []).append(time.perf_counter() - begun)
        good = answer.status_code in expected
        self.answers[f"{name} {'as expected' if good else answer.status_code}"] += 1
        return answer

    async def change(self, name: str, method: str, path: str, expected: tuple[int, ...], **options):
        """Send one request that changes something."""
        origin = str(self.client.base_url).rstrip("/")
        headers = {"Origin": origin, "X-Hilum-Token": self.token, **options.pop("headers", {})}
        return await self.ask(name, method, path, expected, headers=headers, **options)


async def started(source: Path, out: Path | None) -> Desk:
    """Start a desk, come in, and wait until it is ready."""
    command = [sys.executable, "-m", "hilum", "serve", str(source), "--port", "0"]
    process = subprocess.Popen(
        [*command, *(["--out", str(out)] if out else [])], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    address = re.search(r"(http://\S+)/\?token=(\S+)", process.stdout.readline())
    assert address is not None
    limits = httpx.Limits(max_connections=None)
    client = httpx.AsyncClient(base_url=address[1], timeout=120, limits=limits)
    desk = Desk(process, client)
    await client.get("/", params={"token": address[2]}, follow_redirects=True)
    while True:
        study = (await client.get("/api/v1/study")).json()
        if study["ready"] or any(one["state"] == "failed" for one in study["steps"]):
            break
        await asyncio.sleep(0.5)
    desk.token, desk.images = study["token"], study["images"]
    if study["concepts"]:
        desk.concept = study["concepts"][0]["id"]
    await desk.change("author", "POST", "/api/v1/author", (200,), json={"name": "Ann"})
    return desk


async def page(desk: Desk, rng: random.Random) -> None:
    offset = rng.randrange(max(1, desk.images - 60))
    query = rng.choice([{}, {"mask": "missing"}, {"sort": "patient"}, {"q": "1"}])
    await desk.ask("page of the worklist", "GET", "/", (200,), params={**query, "offset": offset})


async def image(desk: Desk, rng: random.Random) -> None:
    row = rng.randrange(desk.images)
    await desk.ask("page of an image", "GET", f"/images/{row}", (200,))
    await desk.ask("pixels", "GET", f"/api/v1/images/{row}/pixels", (200,))
    await desk.ask("mask", "GET", f"/api/v1/images/{row}/masks/reference", (200, 404))


async def thumbnails(desk: Desk, rng: random.Random) -> None:
    for _ in range(12):
        row = rng.randrange(desk.images)
        await desk.ask("thumbnail", "GET", f"/api/v1/images/{row}/thumbnail", (200,))


async def label(desk: Desk, rng: random.Random) -> None:
    row = rng.randrange(desk.images)
    known = (await desk.ask("image", "GET", f"/api/v1/images/{row}", (200,))).json()
    expected = {one["concept"]: one["revision"] for one in known["labels"]}.get(desk.concept, 0)
    sent = {"concept": desk.concept, "state": rng.choice(STATES), "expected": expected}
    await desk.change("label", "POST", f"/api/v1/images/{row}/labels", (201, 409), json=sent)


async def draw(desk: Desk, rng: random.Random) -> None:
    row = rng.randrange(desk.images)
    known = (await desk.ask("image", "GET", f"/api/v1/images/{row}", (200,))).json()
    labels = np.zeros((known["height"], known["width"]), np.uint8)
    top = rng.randrange(10, 40)
    labels[top:-top, 10 : known["width"] // 3] = 1
    labels[top:-top, -known["width"] // 3 : -10] = 2
    await desk.change(
        "drawn mask",
        "PUT",
        f"/api/v1/images/{row}/masks/corrected",
        (201, 409),
        content=bytes(imagecodecs.png_encode(labels, level=1)),
        headers={"If-Match": f'"{known["mask_revision"]}"'},
    )


async def attempt(desk: Desk, rng: random.Random) -> None:
    number = rng.randrange(1000)
    drawn = synthetic.draw(
        synthetic.anatomy(np.random.default_rng(number)),
        np.random.default_rng(number),
        height=900,
        width=800,
    )
    film = bytes(imagecodecs.png_encode(drawn.pixels.astype(np.uint8)))
    await desk.change(
        "film that is tried", "POST", "/api/v1/try", (200,), files={"file": ("a.png", film)}
    )


READING: tuple[tuple[int, Callable[[Desk, random.Random], Awaitable[None]]], ...] = (
    (30, page),
    (30, image),
    (20, thumbnails),
    (12, label),
    (6, draw),
    (1, attempt),
)


async def at_once(desk: Desk) -> float:
    """Send AT_ONCE requests together; return how long all of them took."""
    rng = random.Random(1)
    jobs = [rng.choice([page, image, thumbnails])(desk, rng) for _ in range(AT_ONCE // 2)]
    jobs += [page(desk, rng) for _ in range(AT_ONCE - len(jobs))]
    begun = time.perf_counter()
    await asyncio.gather(*jobs)
    return time.perf_counter() - begun


async def mixed(desk: Desk, seconds: float) -> list[float]:
    """Let CLIENTS readers work for so long; return the memory of each second."""
    until, memory = time.monotonic() + seconds, []
    weights, kinds = zip(*READING, strict=True)

    async def reader(seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < until:
            await rng.choices(kinds, weights)[0](desk, rng)

    async def watch() -> None:
        while time.monotonic() < until:
            memory.append(desk.memory_mb)
            await asyncio.sleep(1)

    await asyncio.gather(watch(), *map(reader, range(CLIENTS)))
    return memory


async def measured(source: Path, out: Path | None, minutes: float) -> str:
    """Load a desk and return the page of what was seen."""
    desk = await started(source, out)
    try:
        begin = desk.memory_mb
        together = await at_once(desk)
        after = desk.memory_mb
        memory = await mixed(desk, minutes * 60)
        await asyncio.sleep(3)
        end = desk.memory_mb
    finally:
        desk.process.terminate()
        desk.process.wait()
        await desk.client.aclose()
    wrong = {key: count for key, count in desk.answers.items() if "as expected" not in key}
    minute = [memory[start : start + 60] for start in range(0, len(memory), 60)]
    lines = [
        f"{machine('starlette', 'uvicorn', 'polars')}; {desk.images:,} images, {CLIENTS} readers.",
        "",
        f"{AT_ONCE} requests at once: answered in {together:.1f} s; "
        f"of all {sum(desk.answers.values()):,} requests {sum(wrong.values())} had an unexpected "
        f"answer{f': {wrong}' if wrong else ''}.",
        "",
        f"Memory, MB: {begin:.0f} at the start, {after:.0f} after {AT_ONCE} requests at once, "
        f"{end:.0f} at the end; highest of each minute: "
        + ", ".join(f"{max(one):.0f}" for one in minute),
        "",
        "| request | count | median, ms | 95 %, ms | slowest, ms |",
        "| --- | --: | --: | --: | --: |",
    ]
    for name, times in sorted(desk.times.items()):
        half, most, worst = np.quantile(np.array(times) * 1000, [0.5, 0.95, 1])
        lines.append(f"| {name} | {len(times):,} | {half:.0f} | {most:.0f} | {worst:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="an empty folder")
    parser.add_argument("--run", type=Path, help="a run, of which a copy is served")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--record", action="store_true", help="write the page of results")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    source, out = arguments.work / "run", None
    if arguments.run:
        shutil.copytree(arguments.run, source)
    else:
        source, out = arguments.work / "films", arguments.work / "run"
        make_films(source)
    text = asyncio.run(measured(source, out, arguments.minutes))
    print(text)
    if arguments.record:
        record("A desk under load", text)


if __name__ == "__main__":
    main()
