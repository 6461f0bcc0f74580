"""How a command ends: everything that can stop it becomes one sentence and an exit code.

    0           done
    1           refused, or something is wrong with files, data or the disk: the sentence says what
                and what to do
    2           the command line was not understood
    70          something unforeseen, a fault of Hilum (EX_SOFTWARE of sysexits.h)
    128 + n     ended by signal n: 130 by Ctrl-C, 143 by SIGTERM

With `--traceback`, or where the environment variable TRACEBACK is set, Python's traceback stands
before the sentence.
"""

from __future__ import annotations

import io
import os
import shlex
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hilum.errors import (
    NOTED,
    OF_WRITING,
    CannotRead,
    CannotWrite,
    HilumError,
    Interrupted,
    Notice,
    on_one_line,
)

FAULT, UNFORESEEN = 1, 70
TRACEBACK = "HILUM_TRACEBACK"
CODES = (
    "Exit codes: 0 done; 1 refused, or something is wrong with files, data or the disk; 2 the "
    "command line was not understood; 70 something unforeseen; 130 ended by Ctrl-C, 143 by SIGTERM."
)
_KEPT = (
    "what was finished is kept, no file is left half written, "
    "and the same command may be given again"
)
_LONGEST = 400  # characters of a command line or an error that are repeated


def end(command: Callable[[], object]) -> int:
    """Call `command` and return the exit code; what stops it is reported on standard error.

    Where a signal ends it, the process is left at once, whatever its threads still do.
    """
    _print_everything()
    with _notices_said(), _ended_by_signals() as signalled:
        try:
            try:
                command()
            finally:
                signalled.append(0)  # what is left to do is quick, and not to be disturbed
            return _flushed(0)
        except SystemExit as stop:
            return _flushed(_code(stop))
        # This is the one place that catches everything: panics of Rust are no `Exception`.
        except BaseException as error:  # noqa: BLE001
            if number := signalled[0]:
                # Native code that calls Python may swallow `Interrupted`, and
                # fail without an answer.
                stop = error if isinstance(error, Interrupted) else Interrupted(number)
                os._exit(_flushed(_reported(stop)))
            return _flushed(_reported(error))


def show_tracebacks() -> None:
    """Show the traceback of whatever ends this process or one that it starts."""
    os.environ[TRACEBACK] = "1"


def _print_everything() -> None:
    """Let what a terminal's character set lacks be printed as an escape in place of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def _notices_said() -> Iterator[None]:
    """Say each `Notice` as a sentence; other warnings are shown as Python shows them."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", Notice)
        shown = warnings.showwarning

        def show(message: Warning | str, *about: Any, **more: Any) -> None:
            if isinstance(message, Notice):
                _say(str(message))
            else:
                shown(message, *about, **more)

        warnings.showwarning = show
        yield


@contextmanager
def _ended_by_signals() -> Iterator[list[int]]:
    """Turn Ctrl-C and SIGTERM into `Interrupted`, and the second of them into an end at once.

    Gives the list of signals that came; once anything stands in it, the next ends the process. A
    signal that is ignored, as those of a background job are, stays ignored.
    """
    signals: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        if signals:
            os._exit(128 + number)
        signals.append(number)
        raise Interrupted(number)

    before = {}
    if threading.current_thread() is threading.main_thread():  # no other may set handlers
        handled = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        before = {number: of for number, of in handled.items() if of is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _code(stop: SystemExit) -> int:
    """Return what Python would: 0 for None, 1 for a message, which is printed."""
    if stop.code is None or isinstance(stop.code, int):
        return stop.code or 0
    _say(str(stop.code))
    return FAULT


def _flushed(code: int) -> int:
    """Write out what was printed, while a reader that has gone or a full disk can still be
    reported.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        # What remains in the buffer would fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # `hilum … | head` has what it wants
            _say(str(CannotWrite.because("what was to be printed", error)))
        return code or FAULT
    return code


def _reported(error: BaseException) -> int:
    if os.environ.get(TRACEBACK):
        sys.stderr.write("".join(traceback.format_exception(error)))
    sentence, code = ending_of(error, sys.argv[1:])
    _say(sentence)
    return code


def _say(sentence: str) -> None:
    lines = "\n".join(map(on_one_line, sentence.split("\n")))
    sys.stderr.write(f"hilum: {lines}\n")


def ending_of(error: BaseException, arguments: Sequence[str]) -> tuple[str, int]:
    """Return the sentence and the exit code for what ended the command of these arguments."""
    if isinstance(error, HilumError):
        return str(error), FAULT
    if isinstance(error, Interrupted):
        return f"stopped: {error.kept or _KEPT}", 128 + error.signal
    if isinstance(error, KeyboardInterrupt):
        return f"stopped: {_KEPT}", 128 + signal.SIGINT
    if isinstance(error, BrokenPipeError):
        return "nobody reads what is printed any more", FAULT
    if isinstance(error, OSError) and (known := _of_system(error)):
        return str(known), FAULT
    where = _where(error)
    if isinstance(error, MemoryError):
        return (
            f"there is not enough memory{where}; close other programs, leave the file out, "
            f"or use a machine with more memory"
        ), FAULT
    what = f"{type(error).__name__}: {_short(on_one_line(str(error)))}".removesuffix(": ")
    again = _short(shlex.join(["hilum", "--traceback", *arguments]))
    return (
        f"something unforeseen happened{where}: {what}; please report it with what "
        f"`{again}` shows. {_KEPT.capitalize()}"
    ), UNFORESEEN


def _of_system(error: OSError) -> HilumError | None:
    """Return the refusal to write or to read a file; None where the error speaks of neither.

    All that writes raises `CannotWrite` itself, so what is left was met by reading.
    """
    if error.errno in OF_WRITING:
        return CannotWrite.because(error.filename or "what was to be written", error)
    return None if error.filename is None else CannotRead.because(error.filename, error)


def _where(error: BaseException) -> str:
    """Return " while reading FILE", of the innermost file that was being worked on; or ""."""
    notes = (note for note in getattr(error, "__notes__", ()) if note.startswith(NOTED))
    return next((f" {note}" for note in notes), "")


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
