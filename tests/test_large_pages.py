"""Verbs that train start anew with large pages, once, and where the system has them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hilum.cli import large_pages

ARGUMENTS = ["--traceback", "run", "folder"]


@pytest.fixture
def started(monkeypatch, tmp_path):
    """What replaced this process, on a system whose large pages may be requested: commands and
    their environments.
    """
    commands = []
    monkeypatch.setattr(os, "execve", lambda program, *rest: commands.append(rest))
    for name in (large_pages.NAME, large_pages.STARTED):
        monkeypatch.setenv(name, "")  # restored afterwards
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-P", "-m", "hilum", *ARGUMENTS])
    switch = tmp_path / "enabled"
    switch.write_text("always [madvise] never\n")
    monkeypatch.setattr(large_pages, "SWITCH", switch)
    return commands


def test_a_verb_that_trains_is_started_anew_once_and_its_processes_without_large_pages(
    started, monkeypatch
):
    large_pages.request(ARGUMENTS)
    ((command, environment),) = started
    assert command == [sys.executable, "-P", "-m", "hilum", *ARGUMENTS]
    assert environment[large_pages.NAME] == large_pages.VALUE
    for name in (large_pages.NAME, large_pages.STARTED):
        assert name not in os.environ
        monkeypatch.setenv(name, environment[name])
    large_pages.request(ARGUMENTS)
    assert len(started) == 1
    assert large_pages.NAME not in os.environ and large_pages.STARTED not in os.environ


@pytest.mark.parametrize("arguments", [["lungs", "run"], ["run", "--help"], [], ["--version"]])
def test_what_does_not_train_goes_on(started, monkeypatch, arguments):
    monkeypatch.setattr(sys, "orig_argv", ["hilum", *arguments])
    large_pages.request(arguments)
    assert not started and large_pages.NAME not in os.environ


@pytest.mark.parametrize(
    ("program", "own"),
    [
        (["python", "-m", "hilum"], True),
        (["python", "-mhilum"], True),
        (["python", "/usr/bin/hilum"], True),
        (["python", "study.py"], False),
        (["python", "-m", "pytest"], False),
        (["python"], False),
        ([], False),
    ],
)
def test_another_program_that_calls_the_command_line_goes_on(started, monkeypatch, program, own):
    monkeypatch.setattr(sys, "orig_argv", [*program, *ARGUMENTS])
    large_pages.request(ARGUMENTS)
    assert bool(started) == own


def test_a_program_that_gives_arguments_of_its_own_goes_on(started, monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "hilum", "run", "other"])
    large_pages.request(ARGUMENTS)
    assert not started


def test_the_users_value_is_kept(started, monkeypatch):
    monkeypatch.setenv(large_pages.NAME, "glibc.malloc.hugetlb=0")
    monkeypatch.setenv(large_pages.STARTED, "1")  # left over from another process
    large_pages.request(ARGUMENTS)
    assert not started and os.environ[large_pages.NAME] == "glibc.malloc.hugetlb=0"


@pytest.mark.parametrize("setting", ["always madvise [never]", "[always] madvise never"])
def test_nothing_is_requested_that_all_have_or_none(started, setting):
    large_pages.SWITCH.write_text(setting)
    large_pages.request(ARGUMENTS)
    assert not started


def test_what_another_process_left_in_the_environment_stops_nothing(started, monkeypatch):
    monkeypatch.setenv(large_pages.STARTED, "1")
    large_pages.request(ARGUMENTS)
    assert len(started) == 1


def test_a_python_that_cannot_be_started_again_goes_on(started, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", "")  # where Python was started by an odd name
    large_pages.request(ARGUMENTS)
    monkeypatch.undo()
    monkeypatch.setattr(large_pages, "SWITCH", tmp_path / "enabled")
    monkeypatch.setattr(sys, "orig_argv", ["hilum", *ARGUMENTS])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
    monkeypatch.delenv(large_pages.NAME, raising=False)
    large_pages.request(ARGUMENTS)
    assert not started and large_pages.NAME not in os.environ


def test_a_command_that_starts_anew_ends_as_any_other(tmp_path):
    command = [sys.executable, "-P", "-X", "utf8", "-m", "hilum", "--traceback", "train", "näher"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("Traceback") and "/näher: give the folder" in ended.stderr
