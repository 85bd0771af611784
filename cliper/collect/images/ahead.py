"""Fetch ahead of a reader: many requests in flight, answers in order, limited in number and in memory.

In: a source of answers, and URLs. Out: one answer per URL, in the URLs' order. The source runs in an event loop in its
own thread, so that neither a slow disk nor the examination of images delays a request.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Protocol

from cliper.collect.images.fetch import Answer


class Source(Protocol):
    """Returns one answer per URL; opened by `async with` in the event loop that uses it."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def fetch(self, url: str) -> Answer: ...


def fetch_ahead(
    source: Source, urls: Sequence[str], *, n_at_once: int, n_ahead: int, max_bytes: int
) -> Generator[Answer]:
    """Yield the URLs' answers in order; while the reader waits for one, the next ones are fetched.

    n_at_once  requests in flight
    n_ahead    requests started beyond the awaited one
    max_bytes  start no request while the bodies that wait for the reader are larger together

    Closing the generator cancels the requests in flight.
    """
    work = _Work(source, urls, n_at_once=n_at_once, n_ahead=n_ahead, max_bytes=max_bytes)
    thread = threading.Thread(target=work.run, daemon=True)
    thread.start()
    try:
        for _ in urls:
            yield work.take()
    finally:
        work.stop()
        thread.join()


class _Work:
    """State shared by the event loop's thread and the reader's. Each has its own counters, so no lock is needed."""

    def __init__(self, source: Source, urls: Sequence[str], *, n_at_once: int, n_ahead: int, max_bytes: int) -> None:
        self._source, self._urls = source, urls
        self._n_at_once, self._n_ahead, self._max_bytes = n_at_once, n_ahead, max_bytes
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._fetch_all())
        self._has_room = asyncio.Event()
        self._answers = SimpleQueue[deque[Answer]]()  # an empty one: nothing more comes
        # Written by the event loop's thread
        self._workers: list[asyncio.Task[None]] = []
        self._is_stopped = False
        self._n_begun = self._n_given = self._bytes_fetched = 0
        self._is_due = False  # whether a call of `_hand_over` is scheduled
        self._early: dict[int, Answer] = {}  # place of the URL -> answer that came before those of earlier URLs
        # Written by the reader's thread
        self._n_taken = self._bytes_taken = 0
        self._ready = deque[Answer]()

    def run(self) -> None:
        """Fetch until all URLs are done or the reader stops it."""
        self._loop.run_until_complete(asyncio.wait([self._task]))
        self._loop.close()
        self._answers.put(deque())

    def take(self) -> Answer:
        """Wait for the next answer; raise what the source raised, if that ended the work."""
        if not self._ready:
            self._ready = self._answers.get()
        if not self._ready:
            self._task.result()
        answer = self._ready.popleft()
        self._n_taken += 1
        self._bytes_taken += weigh(answer)
        if not self._has_room.is_set():
            self._call(self._has_room.set)
        return answer

    def stop(self) -> None:
        """Cancel the requests in flight; the source is closed as usual."""
        self._call(self._cancel)

    def _call(self, function: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop is over
            self._loop.call_soon_threadsafe(function)

    def _cancel(self) -> None:
        self._is_stopped = True
        for worker in self._workers:
            worker.cancel()

    async def _fetch_all(self) -> None:
        async with self._source, asyncio.TaskGroup() as group:
            self._workers = [group.create_task(self._fetch_some()) for _ in range(self._n_at_once)]

    async def _fetch_some(self) -> None:
        while not self._is_stopped:
            await self._wait_for_room()
            if self._n_begun == len(self._urls):
                return
            place, self._n_begun = self._n_begun, self._n_begun + 1
            self._give(place, await self._source.fetch(self._urls[place]))

    async def _wait_for_room(self) -> None:
        while self._is_full():
            self._has_room.clear()
            if self._is_full():  # check again: `take` may have made room just before `clear`
                await self._has_room.wait()

    def _is_full(self) -> bool:
        is_far = self._n_begun - self._n_taken > self._n_ahead
        return is_far or self._bytes_fetched - self._bytes_taken > self._max_bytes

    def _give(self, place: int, answer: Answer) -> None:
        """Keep an answer until the end of the event loop's turn: handing over several at once wakes the reader once."""
        self._early[place] = answer
        self._bytes_fetched += weigh(answer)
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        self._is_due = False
        ready = deque[Answer]()
        while self._n_given in self._early:
            ready.append(self._early.pop(self._n_given))
            self._n_given += 1
        if ready:
            self._answers.put(ready)


def weigh(answer: Answer) -> int:
    """Bytes of an answer's body."""
    return len(answer.body or b"")
