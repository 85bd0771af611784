"""How a crawl treats hosts: whose turn it is, who wants to be left alone, and who is given up."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from cliper import log
from cliper.config.collect import Crawl


class Hosts:
    """Lets each host be asked by so many at once and so often a second, until it is given up."""

    def __init__(self, settings: Crawl) -> None:
        self._interval_s = 1 / settings.requests_per_s
        self._give_up_after = settings.give_up_after
        self._lock = threading.Lock()
        connections = settings.connections_per_host
        self._slots = defaultdict[str, threading.Semaphore](lambda: threading.Semaphore(connections))
        self._next = defaultdict[str, float](float)  # time.monotonic() of the next turn
        self._paused_until = defaultdict[str, float](float)  # time.monotonic()
        self._in_a_row = defaultdict[str, int](int)  # URLs that failed in passing since the last other answer
        self._given_up: dict[str, str] = {}  # host -> why

    @contextmanager
    def turn(self, host: str) -> Iterator[float]:
        """Wait for a turn and hold it; gives the seconds waited."""
        asked = time.monotonic()
        with self._lock:
            slot = self._slots[host]
        with slot:
            start = self._reserve(host)
            while (wait_s := start - time.monotonic()) > 0:
                time.sleep(wait_s)
                if start < self._paused_until[host]:  # the host said so meanwhile
                    start = self._reserve(host)
            yield time.monotonic() - asked

    def _reserve(self, host: str) -> float:
        """Take the host's next turn: its time.monotonic()."""
        with self._lock:
            start = max(self._next[host], self._paused_until[host], time.monotonic())
            self._next[host] = start + self._interval_s
        return start

    def pause(self, host: str, seconds: float) -> None:
        """Give nobody a turn for some time: the host said so."""
        with self._lock:
            self._paused_until[host] = max(self._paused_until[host], time.monotonic() + seconds)

    def note(self, host: str, failure: str | None) -> None:
        """Count what became of a URL: why it failed in passing, or None for any other end."""
        with self._lock:
            self._in_a_row[host] = self._in_a_row[host] + 1 if failure else 0
            if self._in_a_row[host] != self._give_up_after or host in self._given_up:
                return
            self._given_up[host] = f"{host} failed {self._give_up_after} times in a row, at last with {failure}"
        log.warn(f"{self._given_up[host]}: it is asked no more in this run")

    def why_given_up(self, host: str) -> str | None:
        """Account of the host's end; None while it is asked."""
        return self._given_up.get(host)
