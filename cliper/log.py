"""What a stage says to its user: what it reads, how far it has come, one line of account at its end."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sized
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tqdm import tqdm

from cliper.media import terminal

FIRST_S, SHARE, RAREST_S = 5.0, 1 / 8, 1800.0  # when a log gets a line of progress, see Progress
LOGGER = logging.getLogger("cliper")
_began = time.monotonic()
_option = ""  # --config, as the user gave it; "" where it is the default
T = TypeVar("T")


class OneLine(logging.Formatter):
    """Writes a message in one line, safe for a terminal: it may quote data."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Called by `format`."""
        return terminal(super().formatMessage(record).strip())


def start(stage: str) -> None:
    """Send the log of one stage to standard error, each line led by the stage's name."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(f"cliper {stage}: %(message)s"))
    logging.basicConfig(handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    warnings.simplefilter("once")
    LOGGER.setLevel(logging.INFO)


def read_from(configs: list[Path], *, default: list[Path]) -> None:
    """Let the commands that `complete` finds read these config files."""
    global _option  # noqa: PLW0603 - one process reads one config
    _option = "" if configs == default else " --config " + shlex.join(map(str, configs))


def complete(text: str) -> str:
    """Add the user's own --config to the commands that a text names.

    >>> read_from([Path("config.yaml"), Path("my shop.yaml")], default=[Path("config.yaml")])
    >>> complete("it is missing. Run: python -m cliper fuse --arm cliper")
    "it is missing. Run: python -m cliper fuse --config config.yaml 'my shop.yaml' --arm cliper"
    >>> read_from([Path("config.yaml")], default=[Path("config.yaml")])
    """
    return re.sub(r"python -m cliper [\w-]++(?! --config)", lambda found: found[0] + _option, text)


def begin() -> None:
    """Start the stopwatch of a stage."""
    global _began  # noqa: PLW0603 - one process runs one stage
    _began = time.monotonic()


def note(message: str) -> None:
    """Write one line that says what the user can do next."""
    LOGGER.info(complete(message))


def account(message: str) -> None:
    """Write the account: one line with what was done, in numbers, and the seconds that it took."""
    LOGGER.info("%s; %.1f s", message, time.monotonic() - _began)


def warn(message: str) -> None:
    """Write one line about something that may be wrong."""
    LOGGER.warning("warning: %s", complete(message))


def fail(message: str) -> None:
    """Write the one line that a command ends with instead of an account."""
    sys.stderr.write(f"{terminal(complete(message))}\n")


def stop_showing() -> None:
    """After the reader of standard output, such as `head`, has seen enough: what is left goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show(lines: Iterable[str]) -> None:
    """Write lines to standard output, for the tools whose result that is."""
    sys.stdout.writelines(f"{terminal(complete(line))}\n" for line in lines)


def duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds.

    >>> duration(75), duration(100_000)
    ('01:15', '27:46:40')
    """
    return tqdm.format_interval(seconds)


class Progress:
    """Shows how far a loop has come, with rate and time left: a bar on a terminal, lines in a log.

    what    the units that are counted, in the plural
    total   number of units; None where it is unknown
    n_done  units that were done before
    more    more words for each line

    A log gets a line after 5 s, and again each time an eighth of the time so far has passed, but not within 5 s and at
    least every half hour. That is a hundred lines in 28 hours.
    """

    def __init__(self, what: str, total: int | None = None, *, n_done: int = 0, more: Callable[[], str] = str) -> None:
        self._what, self._total, self._n_before, self._more = what, total, n_done, more
        self._bar = tqdm(desc=what, total=total, initial=n_done, file=sys.stderr, disable=None, leave=False)
        self._n_done, self._began = n_done, time.monotonic()
        self._due = self._began + FIRST_S

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def advance(self, n: int = 1) -> None:
        """Count units that are done now."""
        self._n_done += n
        if not self._bar.disable:
            self._bar.set_postfix_str(self._more(), refresh=False)
            self._bar.update(n)
        elif (now := time.monotonic()) >= self._due and self._n_done > self._n_before:
            seconds = now - self._began
            LOGGER.info(self._line(seconds))
            self._due = now + min(max(FIRST_S, SHARE * seconds), RAREST_S)

    def reach(self, n_done: int) -> None:
        """Say how many units are done in all."""
        self.advance(n_done - self._n_done)

    def _line(self, seconds: float) -> str:
        """The line of the log after some seconds."""
        rate = (self._n_done - self._n_before) / seconds
        speed = f"{rate:,.1f} a second" if rate >= 1 else f"{1 / rate:,.1f} s each"
        parts = [f"{self._n_done:,}" + ("" if self._total is None else f" of {self._total:,}"), speed]
        if self._total is not None:
            parts.append(f"{duration((self._total - self._n_done) / rate)} left")
        return "; ".join(filter(None, [f"{self._what}: {', '.join(parts)}", self._more()]))


def progress(items: Iterable[T], *, what: str, total: int | None = None) -> Iterator[T]:
    """Pass items on and show how far the loop over them has come; `total` is their number where they have no length."""
    with Progress(what, len(items) if isinstance(items, Sized) else total) as shown:
        for item in items:
            yield item
            shown.advance()
