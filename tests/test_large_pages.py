"""Verbs that train start anew with large pages, once, and where the system has them."""

from __future__ import annotations

import os
import sys

import pytest

from hilum.cli import large_pages


@pytest.fixture
def started(monkeypatch, tmp_path):
    """The commands that replaced this process, on a system whose large pages may be requested."""
    commands = []
    monkeypatch.setattr(os, "execv", lambda program, command: commands.append(command))
    for name in (large_pages.NAME, large_pages.STARTED):
        monkeypatch.setenv(name, "")  # restored afterwards
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-P", "-m", "hilum", "run", "folder"])
    monkeypatch.setattr(large_pages, "is_own_program", lambda: True)
    switch = tmp_path / "enabled"
    switch.write_text("always [madvise] never\n")
    monkeypatch.setattr(large_pages, "SWITCH", switch)
    return commands


def test_a_verb_that_trains_is_started_anew_once_and_its_processes_without_large_pages(started):
    large_pages.request(["--traceback", "run", "folder"])
    assert os.environ[large_pages.NAME] == large_pages.VALUE
    large_pages.request(["--traceback", "run", "folder"])
    assert started == [[sys.executable, "-P", "-m", "hilum", "run", "folder"]]
    assert large_pages.NAME not in os.environ and large_pages.STARTED not in os.environ


@pytest.mark.parametrize("arguments", [["lungs", "run"], ["run", "--help"], [], ["--version"]])
def test_what_does_not_train_goes_on(started, arguments):
    large_pages.request(arguments)
    assert not started and large_pages.NAME not in os.environ


def test_another_program_that_calls_the_command_line_goes_on():
    assert not large_pages.is_own_program()


def test_the_users_value_is_kept(started, monkeypatch):
    monkeypatch.setenv(large_pages.NAME, "glibc.malloc.hugetlb=0")
    large_pages.request(["run", "folder"])
    assert not started and os.environ[large_pages.NAME] == "glibc.malloc.hugetlb=0"


@pytest.mark.parametrize("setting", ["always madvise [never]", "[always] madvise never"])
def test_nothing_is_requested_that_all_have_or_none(started, setting):
    large_pages.SWITCH.write_text(setting)
    large_pages.request(["run", "folder"])
    assert not started
