"""How much `crawl` holds in memory of what was fetched and not yet taken."""

from __future__ import annotations

import threading


class Backlog:
    """Lets threads begin a numbered job while there is room, and always the one that the taker waits for."""

    def __init__(self, limit: float) -> None:
        self._limit = limit  # bytes
        self._size, self._n_taken = 0, 0
        self._changed = threading.Condition()

    def wait_for_room(self, number: int) -> None:
        """Wait until the job of a number, from 0 in the order in which results are taken, may begin."""
        with self._changed:
            self._changed.wait_for(lambda: self._size < self._limit or number == self._n_taken)

    def add(self, size: int) -> None:
        """Count what a job brought."""
        with self._changed:
            self._size += size

    def take(self, size: int) -> None:
        """Count that the next result was taken."""
        with self._changed:
            self._size -= size
            self._n_taken += 1
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody waits any more."""
        with self._changed:
            self._limit = float("inf")
            self._changed.notify_all()
