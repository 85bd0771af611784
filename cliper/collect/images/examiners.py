"""Processes that examine images. One that an image kills or keeps busy is replaced, and all can be ended at any moment.

In: fetched bytes. Out: one verdict each, as `pictures` gives it. A process starts in 50 ms, when it is needed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import Pipe
from typing import Self

from cliper.collect.images.pictures import Verdict, serve
from cliper.errors import DataError

Bodies = Sequence[bytes | None]
MAX_CPU_S = 10  # to examine one file; a sound one of 40 megapixels takes 1 to 3


class Examiners:
    """Examines images in a few processes; leaving its `with` block kills them, whatever they do.

    limits  of `pictures.examine`
    """

    def __init__(self, **limits: int) -> None:
        self._limits = limits
        self._threads = ThreadPoolExecutor(min(4, max(1, (os.cpu_count() or 1) // 2)))
        self._own = threading.local()  # each thread has a process
        self._lock = threading.Lock()
        self._running = set[_Process]()
        self._is_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._is_over = True
            for process in self._running:
                process.kill()
        self._threads.shutdown(cancel_futures=True)

    def submit(self, bodies: Bodies) -> Future[list[Verdict | None]]:
        """Examine several files; None stays None. The result raises DataError if a process was killed from outside."""
        return self._threads.submit(self._examine, bodies)

    def _examine(self, bodies: Bodies) -> list[Verdict | None]:
        process = self._process()
        with suppress(EOFError, OSError):
            return process.ask(bodies)
        with self._lock:  # it died
            self._running.remove(process)
        del self._own.process
        code = process.kill()
        if len(bodies) == 1:
            return [blame(code)]
        return [verdict for body in bodies for verdict in self._examine([body])]  # one of them is the cause

    def _process(self) -> _Process:
        """The thread's process, started if there is none."""
        with self._lock:
            if self._is_over:
                raise RuntimeError("no more images are examined")
            if not hasattr(self._own, "process"):
                self._own.process = _Process(self._limits)
                self._running.add(self._own.process)
        process: _Process = self._own.process
        return process


class _Process:
    """One process. It ends when this one does, since its pipe then ends."""

    def __init__(self, limits: dict[str, int]) -> None:
        self._pipe, theirs = Pipe()
        command = f"from {serve.__module__} import {serve.__name__} as serve; "
        command += f"serve({theirs.fileno()}, {MAX_CPU_S}, **{limits})"
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-W", "ignore", "-c", command],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C reaches only us
            )

    def ask(self, bodies: Bodies) -> list[Verdict | None]:
        """The verdicts on several files. Raises EOFError or OSError if the process died."""
        self._pipe.send(bodies)
        verdicts: list[Verdict | None] = self._pipe.recv()
        return verdicts

    def kill(self) -> int:
        """End the process; returns its exit code, which is that of its death if it was dead."""
        self._process.kill()
        return self._process.wait()


def blame(code: int) -> Verdict:
    """The verdict on an image whose examination ended a process with this exit code.

    Raises DataError if somebody else ended it, RuntimeError if it has a fault of ours.

    >>> blame(-signal.SIGSEGV).detail
    'decoding it ended with SIGSEGV'
    """
    if code >= 0:
        raise RuntimeError("a process that examines images ended with the traceback above")
    if code in (-signal.SIGKILL, -signal.SIGTERM):
        raise DataError(
            "a process that examines images was killed, maybe because memory ran out; run again: shards are kept"
        )
    if code == -signal.SIGXCPU:
        return Verdict("undecodable", detail=f"decoding it takes more than {MAX_CPU_S} s of CPU time")
    return Verdict("undecodable", detail=f"decoding it ended with {signal.Signals(-code).name}")
