"""Work on what follows while one result is waited for, in bounds of number and memory; the results keep their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from threading import Semaphore
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def work_ahead(
    submit: Callable[[S], Future[T]],
    jobs: Iterable[S],
    *,
    n_begun: int,
    n_ahead: int,
    weigh: Callable[[T], int] = lambda _: 0,
    max_weight: int = 0,
) -> Generator[T]:
    """Give the jobs' results in order; while one is waited for, those that follow it are worked on.

    n_begun     so many are with the workers at once
    n_ahead     so many are ahead of the one that is waited for
    max_weight  none is begun while the results that wait for their turn weigh more together
    """
    waiting, weights, weight = deque[Future[T]](), deque[int](), 0
    free = Semaphore(n_begun)

    def note(future: Future[T]) -> None:
        if not future.cancelled() and future.exception() is None:
            weights.append(weigh(future.result()))
        free.release()

    try:
        for job in jobs:
            free.acquire()
            waiting.append(submit(job))
            waiting[-1].add_done_callback(note)
            weight += sum(weights.popleft() for _ in range(len(weights)))
            while waiting and (waiting[0].done() or len(waiting) > n_ahead or weight > max_weight):
                result = waiting.popleft().result()
                weight -= weigh(result)
                yield result
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
