"""What a stage says to its user while it works."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace

import pytest
import toy

from cliper import log


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that the test sets."""
    now = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(log, "time", SimpleNamespace(monotonic=lambda: now.s))
    return now


def work(clock: SimpleNamespace, n: int, seconds: float) -> Iterator[int]:
    """Units of work that take some seconds each: a loop asks for the next one when it is done with one."""
    for i in range(n):
        yield i
        clock.s += seconds


@pytest.mark.parametrize(("hours", "fewest", "most"), [(28, 70, 120), (1, 30, 60), (0.01, 4, 8), (0.001, 0, 0)])
def test_a_log_gets_some_dozens_of_lines_however_long_a_job_takes(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture, hours: float, fewest: int, most: int
) -> None:
    caplog.set_level("INFO")
    n = 10_000
    for _ in log.progress(work(clock, n, hours * 3600 / n), what="items", total=n):
        pass
    assert fewest <= len(caplog.messages) <= most


def test_lines_come_soon_and_never_stay_away_for_long(clock: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    times = []
    for _ in log.progress(work(clock, 100_000, 1.0), what="items", total=100_000):
        if len(caplog.messages) > len(times):
            times.append(clock.s - 1000)
    assert times[0] <= 6
    gaps = [after - before for before, after in pairwise(times)]
    assert max(gaps) <= 1801
    assert all(gap <= max(6.0, before / 8 + 1) for before, gap in zip(times, gaps, strict=False))


def test_a_line_says_what_is_done_at_which_rate_and_what_is_left(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with log.Progress("items", 1200) as shown:
        clock.s += 10
        shown.advance(200)
        clock.s += 10
        shown.reach(300)
    assert caplog.messages == [
        "items: 200 of 1,200, 20.0 a second, 00:50 left",
        "items: 300 of 1,200, 15.0 a second, 01:00 left",
    ]


def test_what_was_done_before_counts_as_done_and_not_for_the_rate(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with log.Progress("epochs", 100, n_done=90, more=lambda: "loss 0.5") as shown:
        clock.s += 3700
        shown.advance()
    assert caplog.messages == ["epochs: 91 of 100, 3,700.0 s each, 9:15:00 left; loss 0.5"]


def test_a_loop_of_unknown_length_says_how_much_is_done(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for _ in log.progress(iter("ab"), what="blocks"):
        clock.s += 4
    assert caplog.messages == ["blocks: 2, 4.0 s each"]


def test_a_terminal_gets_a_bar_and_no_lines(
    clock: SimpleNamespace,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(log.sys.stderr, "isatty", lambda: True)
    for _ in log.progress(work(clock, 3, 10), what="items", total=3):
        pass
    assert re.search(r"items: .*0/3", capsys.readouterr().err)
    assert caplog.messages == []


def test_only_one_module_knows_bars() -> None:
    users = [path.name for path in (toy.REPOSITORY / "cliper").rglob("*.py") if "tqdm" in path.read_text("utf-8")]
    assert users == ["log.py"]
