"""Run ONNX models: the one place where sessions of ONNX Runtime are made, with the same options.

A model may come from an untrusted source (see SECURITY.md). `hilum.safety.onnx_file` has checked
its file before; what remains are bounds on its resources while it runs:

    MEMORY_BYTES     of all tensors of a model for images of up to 512 x 512 pixels, and in
                     proportion to the pixels of larger ones: the size limit of the session's arena.
                     Constants are not folded when a session is made, since that memory would not be
                     the arena's.
    MAKE_SECONDS     to make a session
    CALL_SECONDS     and IMAGE_SECONDS for each image of 256 x 256 pixels, for a call

ONNX Runtime checks its flag `terminate` between two nodes only, so one huge node cannot be stopped.
Hence an untrusted model runs on a thread of its own, which is abandoned after that time: the caller
gets an error, and a process that ends does not wait for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from hilum.errors import BadData, on_one_line
from hilum.safety import threads

# The bundled models take less than a second for each; the limits are for files of others, and
# stand so far above that a slow or busy processor meets none of them.
MEMORY_BYTES = 1 << 30
MAKE_SECONDS = 30.0
CALL_SECONDS = 10.0
IMAGE_SECONDS = 4.0
_SILENT = 4  # only fatal errors are printed: every fault is raised

_ONE_AT_A_TIME = threading.Lock()
Answer = TypeVar("Answer")


class Session:
    """One model for images of `size` x `size` pixels, ready to be called.

    `trusted`: it was shipped with Hilum or made just now, so time and memory are not bounded.
    `cores` are those that one call may use; by default as `hilum.safety.threads` says.
    """

    def __init__(
        self, content: bytes, name: str, size: int, *, trusted: bool = False, cores: int = 0
    ) -> None:
        """Raise `BadData` where ONNX Runtime cannot read it in time."""
        self._name, self._trusted = name, trusted
        memory = 0 if trusted else MEMORY_BYTES * max(1, size**2 // 512**2)
        self._session = self._timed(
            lambda: _made(content, memory, cores), MAKE_SECONDS, lambda: None
        )

    def run(self, outputs: Sequence[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Return the named outputs.

        Raises `BadData` where the model fails, requests more memory than `MEMORY_BYTES`, or
        does not finish in time.
        """
        import onnxruntime

        options: Any = onnxruntime.RunOptions()  # of the extension module, which has no types
        options.log_severity_level = _SILENT

        def _stop() -> None:
            options.terminate = True

        pixels = sum(array.size for array in feeds.values())
        seconds = CALL_SECONDS + IMAGE_SECONDS * pixels / 256**2
        return self._timed(lambda: self._session.run(list(outputs), feeds, options), seconds, _stop)

    def _timed(
        self, work: Callable[[], Answer], seconds: float, stop: Callable[[], None]
    ) -> Answer:
        try:
            return work() if self._trusted else _within(seconds, work, stop)
        except _Late:
            raise BadData(
                f"{self._name}: the model had no answer after {seconds:.0f} seconds; expected one "
                f"exported by Hilum, which takes less than one"
            ) from None
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise BadData(
                f"{self._name}: ONNX Runtime cannot run this model ({_reason(error)}); "
                f"train it again or copy it anew"
            ) from error


class _Late(Exception):
    """The time is over."""


def _made(content: bytes, memory: int, cores: int) -> Any:
    """Return a session whose arena holds at most `memory` bytes, or any number with 0."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Spinning threads would take the processor from other processes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.intra_op_num_threads = cores or threads.limited()  # 0: as many as there are cores
    arena = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    place = onnxruntime.OrtMemoryInfo("Cpu", arena, 0, onnxruntime.OrtMemType.DEFAULT)
    with _ONE_AT_A_TIME:  # a session takes the arena that was registered last
        limits = onnxruntime.OrtArenaCfg({"max_mem": memory})
        onnxruntime.create_and_register_allocator(place, limits)
        return onnxruntime.InferenceSession(
            content,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["ConstantFolding"],
            enable_fallback=0,  # a fallback prints, and tries the same again
        )


def _within(seconds: float, work: Callable[[], Answer], stop: Callable[[], None]) -> Answer:
    """Do `work` on a thread; raise `_Late` when it is not done in time, having called `stop`."""
    done, found = threading.Event(), []

    def _do() -> None:
        try:
            found.append((work(), None))
        except Exception as error:  # noqa: BLE001 (raised again on the caller's thread)
            found.append((None, error))
        done.set()

    threading.Thread(target=_do, name="hilum-model", daemon=True).start()
    try:
        in_time = done.wait(seconds)
    except KeyboardInterrupt:
        stop()
        raise
    if not in_time:
        stop()
        raise _Late
    answer, error = found[0]
    if error is not None:
        raise error
    return answer


def _reason(error: Exception) -> str:
    """Return what ONNX Runtime says, on one line; the text may hold names out of the model."""
    return on_one_line(" ".join(str(error).split())[:300])
