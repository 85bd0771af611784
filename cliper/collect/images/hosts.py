"""The limits of a crawl for each host: turns, pauses that the host asks for, and hosts that are given up."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cliper import log
from cliper.config.collect import Crawl


class Hosts:
    """Limits the requests to each host, at once and per second, and gives up hosts that fail. For one event loop."""

    def __init__(self, settings: Crawl) -> None:
        self._interval_s = 1 / settings.requests_per_s
        self._give_up_after = settings.give_up_after
        connections = settings.connections_per_host
        self._slots = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(connections))
        self._next = defaultdict[str, float](float)  # time.monotonic() of the next turn
        self._paused_until = defaultdict[str, float](float)  # time.monotonic()
        self._in_a_row = defaultdict[str, int](int)  # transient failures since the last other answer
        self._given_up: dict[str, str] = {}  # host -> why

    @asynccontextmanager
    async def turn(self, host: str) -> AsyncIterator[float]:
        """Wait for a turn and hold it; yields the seconds waited."""
        asked = time.monotonic()
        async with self._slots[host]:
            start = self._reserve(host)
            while (wait_s := start - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
                if start < self._paused_until[host]:  # the host has asked for a pause meanwhile
                    start = self._reserve(host)
            yield time.monotonic() - asked

    def _reserve(self, host: str) -> float:
        """Take the host's next turn: its time.monotonic()."""
        start = max(self._next[host], self._paused_until[host], time.monotonic())
        self._next[host] = start + self._interval_s
        return start

    def pause(self, host: str, seconds: float) -> None:
        """Give no turns for some seconds, as the host asked."""
        self._paused_until[host] = max(self._paused_until[host], time.monotonic() + seconds)

    def note(self, host: str, failure: str | None) -> None:
        """Count the outcome of a URL: the reason of a transient failure, or None for any other outcome."""
        self._in_a_row[host] = self._in_a_row[host] + 1 if failure else 0
        if self._in_a_row[host] == self._give_up_after and host not in self._given_up:
            self._given_up[host] = f"{host} failed {self._give_up_after} times in a row, at last with {failure}"
            log.warn(f"{self._given_up[host]}: it gets no more requests in this run")

    def why_given_up(self, host: str) -> str | None:
        """Why the host was given up; None if it was not."""
        return self._given_up.get(host)
