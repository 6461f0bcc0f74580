"""Work in shards: the same results whoever carries them, and whatever is killed meanwhile."""

import errno
import itertools
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from hilum import storage
from hilum.errors import BadData, BadRecipe, CannotWrite, HilumError, MissingExtra
from hilum.scale import executor, in_groups, shards, worker
from hilum.scale.executor import Executor, executing
from hilum.scale.journal import opened
from hilum.scale.unkept import Unkept
from hilum.scale.worker import ENVIRONMENT, Outcome, Task

ITEMS = {f"image {number:03}": number for number in range(40)}


def squared(number: int) -> bytes:
    return f"{number * number}".encode()


@dataclass(frozen=True)
class Counted:
    """Leaves a file for each item that it worked on; some items are at fault, some kill."""

    folder: Path
    faulty: frozenset = frozenset()
    deadly: frozenset = frozenset()
    seconds: float = 0.0

    def __call__(self, number: int) -> bytes:
        with open(self.folder / f"{number}", "a") as stream:
            stream.write("x")
        time.sleep(self.seconds)
        if number in self.faulty:
            raise BadData(f"number {number} is at fault")
        if number in self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return squared(number)

    def times(self) -> dict[int, int]:
        return {int(one.name): one.stat().st_size for one in self.folder.iterdir()}


def at_once(count: int = 2) -> Executor:
    return Executor(executor.PROCESSES, count, patience_seconds=0)


@pytest.fixture(scope="module")
def two():
    """Two processes that serve several tests."""
    chosen = at_once()
    yield chosen
    chosen.close()


@pytest.fixture
def in_two(two, monkeypatch):
    monkeypatch.setattr(executor, "current", lambda: two)


@pytest.fixture
def counted(tmp_path):
    (tmp_path / "seen").mkdir()
    return Counted(tmp_path / "seen")


def results(work, items=ITEMS, journal=None, **more):
    return [one.result for one in shards.run(work, items, journal, **more)]


EXPECTED = [squared(number) for number in ITEMS.values()]


def test_results_come_in_the_order_of_the_items_whoever_carries_them(in_two):
    assert results(squared) == EXPECTED


def test_serial_threads_and_processes_give_the_same(tmp_path):
    assert results(squared) == results(squared, threads=3) == EXPECTED


def test_a_short_job_starts_no_process(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    with executing(Executor(executor.PROCESSES, 2)):
        assert results(squared) == EXPECTED


def test_no_more_processes_start_than_there_are_items_to_do(monkeypatch):
    start, started = subprocess.Popen, []
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(1) or start(*a, **k))
    with executing(at_once(300)):
        assert results(squared, {"1": 1, "2": 2}) == [squared(1), squared(2)]
    assert len(started) <= 2


def test_more_processes_than_files_can_be_open_are_refused():
    with pytest.raises(BadRecipe, match="expected 0, for one on each core, to"):
        Executor(executor.PROCESSES, 100_000)


def test_a_system_that_allows_no_more_processes_is_an_error_and_none_is_left(monkeypatch):
    start, started = subprocess.Popen, []

    def limited(*words, **options):
        if len(started) == 2:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        started.append(start(*words, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", limited)
    with pytest.raises(HilumError, match="fewer --processes"), executing(at_once(3)):
        results(squared)
    assert len(started) == 2 and None not in [one.poll() for one in started]


def test_a_long_job_moves_to_processes_on_its_way(counted):
    slow = Counted(counted.folder, seconds=0.02)
    with executing(Executor(executor.PROCESSES, 2, patience_seconds=0.1)) as _:
        assert results(slow) == EXPECTED
        assert executor.current()._remote is not None
    assert slow.times() == dict.fromkeys(ITEMS.values(), 1)


def test_a_fault_of_one_item_stops_no_other_and_its_words_arrive(in_two, counted):
    ended = list(shards.run(Counted(counted.folder, faulty=frozenset({7})), ITEMS, None))
    assert [one.fault for one in ended if one.fault] == ["number 7 is at fault"]
    assert sum(one.result != b"" for one in ended) == 39


def no_space(number: int) -> bytes:
    raise CannotWrite(f"cannot write {number}")


def broken(number: int) -> bytes:
    return {}[number]


@pytest.mark.parametrize(("work", "error"), [(no_space, CannotWrite), (broken, KeyError)])
def test_an_error_that_is_no_fault_of_an_item_is_raised_with_where_it_happened(in_two, work, error):
    with pytest.raises(error) as found:
        results(work)
    assert f"in {work.__name__}" in "".join(found.value.__notes__)


def test_what_is_finished_is_never_done_again(counted, tmp_path):
    first = shards.run(counted, ITEMS, tmp_path / "j")
    assert [next(first).result for _ in range(5)] == EXPECTED[:5]
    first.close()
    assert results(counted, journal=tmp_path / "j") == EXPECTED
    assert results(counted, journal=tmp_path / "j") == EXPECTED
    assert set(counted.times().values()) == {1}


def test_a_changed_item_and_a_result_that_no_longer_holds_are_done_again(counted, tmp_path):
    results(counted, journal=tmp_path / "j")
    changed = {**ITEMS, "image 003": 100}
    assert results(counted, changed, tmp_path / "j")[3] == squared(100)
    results(counted, changed, tmp_path / "j", kept=lambda result: result != squared(5))
    assert counted.times()[100] == 1 and counted.times()[5] == 2 and counted.times()[6] == 1


def test_a_job_made_from_something_else_begins_anew(counted, tmp_path):
    results(counted, journal=tmp_path / "j", made_from=["model", 1])
    results(counted, journal=tmp_path / "j", made_from=["model", 2])
    assert set(counted.times().values()) == {2}


@pytest.mark.parametrize("spoilt", [b"no database", bytes(5000), b""])
def test_a_spoilt_journal_costs_work_and_nothing_else(counted, tmp_path, spoilt):
    results(counted, journal=tmp_path / "j")
    (tmp_path / "j").write_bytes(spoilt)
    assert results(counted, journal=tmp_path / "j") == EXPECTED


@pytest.mark.parametrize(
    "tables",
    [
        "CREATE TABLE items (name TEXT PRIMARY KEY, made_from TEXT, result BLOB, digest TEXT)",
        "CREATE TABLE shards (number INTEGER)",
        "CREATE TABLE job (version TEXT)",
        "CREATE VIEW items AS SELECT 1 AS name",
    ],
)
def test_a_journal_of_another_version_costs_work_and_nothing_else(counted, tmp_path, tables):
    with closing(sqlite3.connect(tmp_path / "j")) as database:
        database.execute(tables)
    for _ in range(2):
        assert results(counted, journal=tmp_path / "j") == EXPECTED
    assert counted.times() == dict.fromkeys(ITEMS.values(), 1)


def test_a_result_that_was_changed_on_the_disk_is_done_again(counted, tmp_path):
    results(counted, journal=tmp_path / "j")
    with sqlite3.connect(tmp_path / "j") as database:
        database.execute("UPDATE items SET result = X'00' WHERE name LIKE '%image 009%'")
    database.close()
    assert results(counted, journal=tmp_path / "j") == EXPECTED
    assert counted.times()[9] == 2


def test_results_that_wait_longer_than_there_is_memory_are_read_again(
    in_two, monkeypatch, tmp_path
):
    monkeypatch.setattr("hilum.scale.journal._AT_HAND", 3)
    assert results(squared, journal=tmp_path / "j") == EXPECTED
    assert results(squared, journal=tmp_path / "j") == EXPECTED


def test_a_job_without_a_journal_holds_a_result_until_it_is_taken():
    finished = Unkept()
    first, second = (finished.begin([name], "me", 1.0, 0) for name in "ab")
    finished.commit(second, [("b", 2)], [Outcome(b"4")])
    finished.commit(first, [("a", 1)], [Outcome(b"1")])
    assert first != second and finished.outcome("a") == Outcome(b"1")
    assert finished.outcome("b") == Outcome(b"4")
    with pytest.raises(KeyError):
        finished.outcome("a")


def test_two_commands_cannot_use_one_journal(tmp_path):
    with (
        opened(tmp_path / "j"),
        pytest.raises(HilumError, match="another hilum process uses"),
    ):
        results(squared, journal=tmp_path / "j")


def test_an_image_that_kills_its_process_is_set_aside_by_name_and_all_others_are_done(
    in_two, counted
):
    ended = list(shards.run(Counted(counted.folder, deadly=frozenset({11, 12})), ITEMS, None))
    lost = [one for one in ended if one.poisoned]
    assert [one.fault.split(":")[0] for one in lost] == ["image 011", "image 012"]
    assert [one.result for one in ended if not one.poisoned] == [
        result for number, result in enumerate(EXPECTED) if number not in (11, 12)
    ]


def test_groups_of_items_come_back_in_order_without_the_one_at_fault_and_the_one_that_kills(
    in_two, counted
):
    items = {f"{number:03}": number for number in range(2 * in_groups.TOGETHER + 5)}
    deadly = in_groups.TOGETHER + 1
    work = Counted(counted.folder, faulty=frozenset({7}), deadly=frozenset({deadly}))
    ended = dict(in_groups.run(work, items))
    assert list(ended) == list(items)
    faults = {name: str(one) for name, one in ended.items() if isinstance(one, BadData)}
    assert faults.pop("007") == "number 7 is at fault"
    ((name, fault),) = faults.items()
    assert name == f"{deadly:03}" and fault.startswith(f"{name}: each of the {shards.TRIES}")
    sound = items.keys() - {"007", name}
    assert {one: ended[one] for one in sound} == {one: squared(items[one]) for one in sound}


def test_a_shard_is_done_when_all_that_it_wrote_is_flushed_and_a_flush_that_fails_is_its_error(
    tmp_path, monkeypatch
):
    flushed = []

    def slow(descriptor: int) -> None:
        time.sleep(0.01)
        flushed.append(os.fstat(descriptor).st_ino)

    def written(number: int) -> bytes:
        storage.write_text(tmp_path / f"{number}", "x")
        return squared(number)

    monkeypatch.setattr(os, "fsync", slow)
    ended = worker.done(written, Task(1, range(3)))
    assert [one.result for one in ended.outcomes] == EXPECTED[:3]
    assert flushed == [(tmp_path / f"{number}").stat().st_ino for number in range(3)]
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(full))
    ended = worker.done(written, Task(2, range(3)))
    assert isinstance(ended.error, CannotWrite) and not ended.outcomes


def test_a_flush_that_fails_is_no_fault_of_the_file_that_is_written_meanwhile(
    tmp_path, monkeypatch
):
    refused, flushed = [], itertools.count()

    def written(number: int) -> bytes:
        try:
            storage.write_text(tmp_path / f"{number}", "x")
        except HilumError as fault:  # as a work says what is wrong with its own file
            refused.append(fault)
        return squared(number)

    def full(descriptor: int) -> None:
        if next(flushed) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    ended = worker.done(written, Task(1, range(100)))  # more than wait for their flush
    assert not refused and isinstance(ended.error, CannotWrite)
    assert str(ended.error).startswith(f"cannot write {tmp_path / '1'}: ")


def test_a_poisoned_image_is_tried_again_by_the_next_call(in_two, counted, tmp_path):
    only = {"bad": 1, "good": 2}
    list(shards.run(Counted(counted.folder, deadly=frozenset({1})), only, tmp_path / "j"))
    assert results(counted, only, tmp_path / "j") == [squared(1), squared(2)]
    assert counted.times()[2] == 1


def test_processes_that_cannot_start_are_an_error_and_no_endless_loop(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with executing(at_once()), pytest.raises(HilumError, match="ended by the system before they"):
        results(squared)


def test_a_stuck_process_is_ended_when_its_lease_is_over(two, in_two, counted, monkeypatch):
    stuck = Counted(counted.folder, seconds=30)
    monkeypatch.setattr(two.started(stuck, 1), "_lease", 1.0)
    (one,) = shards.run(stuck, {"stuck": 1}, None)
    assert one.poisoned and stuck.times().get(1, 0) <= shards.TRIES


def test_workers_killed_at_random_moments_change_nothing(counted, tmp_path):
    slow = Counted(counted.folder, seconds=0.01)
    chosen, stop, killed = at_once(), threading.Event(), []

    def kill() -> None:
        """Kill a worker each time that some more items were begun."""
        draw, begun = random.Random(3), 10
        while not stop.wait(0.01):
            if len(os.listdir(counted.folder)) > begun:
                begun += 25
                killed.append(draw.choice(chosen._remote._workers).process.pid)
                os.kill(killed[-1], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    with executing(chosen):
        found = results(slow, {f"{number:03}": number for number in range(120)})
    stop.set(), thread.join()
    assert found == [squared(number) for number in range(120)] and len(killed) > 2


DRIVER = """
import sys
from pathlib import Path
from hilum.scale import executor, shards
from hilum.scale.executor import Executor, executing
import test_scale_shards as here
work = here.Counted(Path(sys.argv[1]), seconds=0.02)
with executing(Executor(executor.PROCESSES, 2, patience_seconds=0)):
    for one in shards.run(work, here.ITEMS, Path(sys.argv[2])):
        print(one.result.decode(), flush=True)
"""


def test_a_killed_program_goes_on_where_it_was_and_leaves_no_process(counted, tmp_path):
    """The script has no guard around its first line."""
    (tmp_path / "driver.py").write_text(DRIVER)
    command = [sys.executable, str(tmp_path / "driver.py"), str(counted.folder), "j"]
    paths = os.pathsep.join(
        [*filter(None, [os.environ.get("PYTHONPATH")]), os.path.dirname(__file__)]
    )
    named = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": paths}, "text": True}
    with subprocess.Popen(command, stdout=subprocess.PIPE, **named) as child:
        read = [child.stdout.readline() for _ in range(10)]
        workers = children(child.pid)
        child.kill()
    deadline = time.monotonic() + 5
    while (
        any(os.path.exists(f"/proc/{pid}/exe") for pid in workers) and time.monotonic() < deadline
    ):
        time.sleep(0.01)
    assert len(workers) == 2 and not any(os.path.exists(f"/proc/{pid}/exe") for pid in workers)
    before = counted.times()
    done = subprocess.run(command, capture_output=True, **named, check=True)
    assert done.stdout.split() == [result.decode() for result in EXPECTED]
    assert done.stdout.startswith("".join(read))
    again = [number for number, times in counted.times().items() if times > before.get(number, 1)]
    assert len(before) > 9 and len(again) < len(before) / 2


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_settings_that_do_not_go_together_are_refused():
    for wrong in ({"kind": "threads"}, {"kind": "dask"}, {"cluster": "local"}):
        with pytest.raises(BadRecipe):
            Executor(**wrong)


def test_without_the_package_dask_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        executing(Executor(executor.DASK, cluster="local", patience_seconds=0)),
        pytest.raises(MissingExtra, match=r"scale\]|distributed"),
    ):
        results(squared)


def test_two_workers_of_a_dask_cluster_give_the_same_and_one_that_is_killed_is_replaced(
    counted, monkeypatch
):
    """The workers were started in another folder than that in which the items are named."""
    pytest.importorskip("distributed")
    work = Counted(Path("seen"), faulty=frozenset({3}), deadly=frozenset({9}))
    chosen = Executor(executor.DASK, 2, "local", patience_seconds=0)
    with executing(chosen):
        chosen.started(work, 12)
        monkeypatch.chdir(counted.folder.parent)
        ended = list(shards.run(work, dict(list(ITEMS.items())[:12]), None))
        environments = chosen._remote._client.run(lambda: dict(os.environ)).values()
    assert all(ENVIRONMENT.items() <= one.items() for one in environments)
    assert next(one.fault for one in ended if one.fault) == "number 3 is at fault"
    assert [one.poisoned for one in ended].index(True) == 9
    assert [one.result for one in ended if not one.fault] == [
        result for number, result in enumerate(EXPECTED[:12]) if number not in (3, 9)
    ]


def test_no_scheduler_at_an_address_is_one_sentence(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("hilum.scale.dask_cluster._SECONDS_TO_CONNECT", 0.2)
    with (
        executing(Executor(executor.DASK, cluster="tcp://127.0.0.1:9", patience_seconds=0)),
        pytest.raises(HilumError, match="no Dask scheduler with a worker answers at tcp://127"),
    ):
        results(squared)
