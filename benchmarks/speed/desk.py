"""Measure the desk in Chromium: pages, images of 3000 x 2500 x 16 bit, window steps, strokes.

    python -m benchmarks.speed.desk --work WORK [--record]

Two runs are made below WORK, and kept there for the next time: one of few large made-up films, and
one whose tables have as many images as ChestX-ray14. Each figure is of a server and a browser on
this machine. A page counts from the navigation to its load event, an image from the navigation, or
the key, until the film on the screen has changed. A step counts the script's time: what handles the
pointer, and what draws the frame; the browser's own compositing comes on top.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page

from benchmarks._lib.large_study import NIH, large_study
from benchmarks._lib.results import machine, record
from benchmarks._lib.small_job import small_job
from benchmarks.robustness.desk_load import make_films
from hilum.config import Recipe
from hilum.run_folder import Run
from hilum.runs import run_all
from tests.browsers import Desk, launched, served

REPEATS = 9
STEPS = 60
READING_MS = 2000  # that a reader spends on an image at least, while the next one is fetched
QUERIES = (
    "",
    "mask=missing",
    "issue=open&sort=issues",
    "source=hospital+3&view=rows",
    "q=p20017",
    "sort=uncertainty&offset=56000",
    "sort=-score.tuberculosis&part=test&offset=9000",
    "label=tuberculosis:present&disagreement=1",
)
# Adds up what frames and moves of the pointer cost, and says when the film has changed.
WATCH = """
window.spent = 0;
const request = window.requestAnimationFrame.bind(window);
window.requestAnimationFrame = (run) => request((at) => {
  const begun = performance.now(); run(at); window.spent += performance.now() - begun;
});
const add = EventTarget.prototype.addEventListener;
EventTarget.prototype.addEventListener = function (name, run, options) {
  if (name !== "pointermove" || typeof run !== "function")
    return add.call(this, name, run, options);
  return add.call(this, name, function (event) {
    const begun = performance.now(); const out = run.call(this, event);
    window.spent += performance.now() - begun; return out;
  }, options);
};
window.filmSample = () => {
  const film = document.querySelector("#main-pane canvas.film");
  if (!film || !film.width) return "";
  const row = film.getContext("2d").getImageData(0, film.height >> 1, film.width, 1).data;
  return row.some((value, at) => at % 4 < 3 && value) ? row.join() : "";
};
window.filmChanged = (before) => new Promise((resolve, reject) => {
  const check = () => {
    const now = window.filmSample();
    if (now && now !== before) resolve(performance.now());
    else if (performance.now() > 60000) reject(new Error("the film did not change"));
    else setTimeout(check, 4);
  };
  check();
});
"""


def milliseconds(times: list[float]) -> str:
    return f"{statistics.median(times):.3g} ({max(times):.3g})"


@contextmanager
def page_of(desk: Desk):
    """Open a page of a new browser, with nothing cached, that has used the one-time address."""
    context = desk.chromium.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.add_init_script(WATCH)
    page.goto(desk.address)
    page.wait_for_selector("#items", timeout=600_000)  # the study may still be prepared
    yield page
    context.close()


def loaded(page: Page) -> float:
    """Return how long the page that is shown took, from navigation to load."""
    page.wait_for_load_state("load")
    return page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")


def timed(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - begun)


def pages(desk: Desk, page: Page) -> list[tuple[str, list[float], float]]:
    """Measure the first page of a new browser, and the same page again."""
    cold, second, warm = [], [], []
    invited = "fetch('/api/v1/invitations', {method: 'POST', headers: {'X-Hilum-Token': "
    invited += "document.querySelector('meta[name=hilum-token]').content}})"
    for _ in range(REPEATS):
        address = page.evaluate(f"{invited}.then((one) => one.json())")["address"]
        fresh = desk.chromium.new_context(viewport={"width": 1400, "height": 900})
        first = fresh.new_page()
        cold.append(timed(lambda at=address, to=first: to.goto(at, wait_until="load")))
        first.goto(desk.base)
        second.append(loaded(first))
        fresh.close()
    for _ in range(REPEATS):
        page.goto(desk.base)
        warm.append(loaded(page))
    return [
        ("first page, new browser", cold, 1000),
        ("its second page", second, 150),
        ("the same page, in a browser that knows it", warm, 150),
    ]


def worklist(desk: Desk, page: Page) -> list[tuple[str, list[float], float]]:
    """Measure pages of a long worklist, each query in turn."""
    times = []
    for query in QUERIES * 3:
        page.goto(f"{desk.base}/?{query}")
        times.append(loaded(page))
    return [(f"page of the worklist, {NIH:,} images, {len(QUERIES)} queries", times, 150)]


def images(desk: Desk, page: Page) -> list[tuple[str, list[float], float]]:
    """Measure how soon a large image is seen, and what a window step and a stroke cost."""
    shown, following = [], []
    for number in range(REPEATS):
        page.goto(f"{desk.base}/images/{2 * number}")
        shown.append(page.evaluate("window.filmChanged('')"))
    page.goto(f"{desk.base}/images/0")
    page.evaluate("window.filmChanged('')")
    for _ in range(REPEATS):
        page.wait_for_timeout(READING_MS)
        press = (
            "(async () => { const before = window.filmSample(), begun = performance.now();"
            "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', "
            "bubbles: true})); return await window.filmChanged(before) - begun; })()"
        )
        following.append(page.evaluate(press))
    page.keyboard.press("0")
    window = dragged(page)
    page.keyboard.press("b")
    stroke = dragged(page)
    return [
        ("image of 3000 x 2500 x 16 bit, from the navigation", shown, 600),
        ("next image, fetched ahead", following, 100),
        ("window step", window, 16),
        ("step of a brush stroke", stroke, 16),
    ]


def dragged(page: Page) -> list[float]:
    """Drag over the image; return the milliseconds of script for each step."""
    box = page.locator("#main-pane").bounding_box()
    left, top = box["x"] + box["width"] / 2, box["y"] + box["height"] / 3
    page.mouse.move(left, top)
    page.mouse.down()
    page.wait_for_timeout(500)
    take = "(() => { const spent = window.spent; window.spent = 0; return spent; })()"
    page.evaluate(take)
    costs = []
    for step in range(STEPS):
        page.mouse.move(left + 2 * step, top + 3 * step)
        page.wait_for_timeout(30)
        costs.append(page.evaluate(take))
    page.mouse.up()
    return costs


def memory_mb(desk: Desk) -> tuple[float, float]:
    """Return the resident set of the desk's process now, and its largest."""
    lines = Path(f"/proc/{desk.process.pid}/status").read_text().splitlines()
    sizes = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return tuple(int(sizes[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))


def prepared(work: Path) -> tuple[Path, Path]:
    """Make the two runs, where they are not there yet."""
    films, small, large = work / "films", work / "small", work / "large"
    if not films.exists():
        make_films(films)
    if not (small / "run" / "report.html").exists():
        small.mkdir(parents=True, exist_ok=True)
        made(Recipe.of_source(small_job(small)), small / "run")
    if not large.exists():
        large_study(small / "run", large)
    return films, large


def made(recipe: Recipe, folder: Path) -> None:
    @contextmanager
    def quiet(_):
        yield lambda done, total: None

    for _ in run_all.perform(Run(folder), recipe, quiet):
        pass


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--record", action="store_true", help="write the results page")
    arguments = parser.parse_args()
    films, large = prepared(arguments.work)
    figures: list[tuple[str, list[float], float]] = []
    memory: dict[str, tuple[float, float]] = {}
    with launched() as chromium:
        with served(films, chromium, "--out", str(arguments.work / "films_run")) as desk:
            with page_of(desk) as page:
                figures += [*pages(desk, page), *images(desk, page)]
            memory["large films"] = memory_mb(desk)
        with served(large, chromium) as desk:
            with page_of(desk) as page:
                figures += worklist(desk, page)
            memory[f"{NIH:,} images"] = memory_mb(desk)
    rows = [f"| {what} | {milliseconds(times)} | {most:.0f} |" for what, times, most in figures]
    for what, (now, most) in memory.items():
        rows.append(f"| memory afterwards (largest), {what}, MB | {now:.0f} ({most:.0f}) | 300 |")
    text = "\n".join(
        [
            "`python -m benchmarks.speed.desk --work WORK --record`",
            "",
            f"{machine('starlette', 'uvicorn', 'playwright')}. Milliseconds: median (largest).",
            "",
            "| what | seen | to reach |",
            "| --- | ---: | ---: |",
            *rows,
        ]
    )
    print(text)
    if arguments.record:
        record("The desk in the browser", text)


if __name__ == "__main__":
    main()
