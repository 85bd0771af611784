"""What a stage says to its user: progress on a terminal, one line of account at its end."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

from cliper.media import terminal

LOGGER = logging.getLogger("cliper")
_began = time.monotonic()
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


def begin() -> None:
    """Start the stopwatch of a stage."""
    global _began  # noqa: PLW0603 - one process runs one stage
    _began = time.monotonic()


def note(message: str) -> None:
    """Write one line that says what the user can do next."""
    LOGGER.info(message)


def account(message: str) -> None:
    """Write the account: one line with what was done, in numbers, and the seconds that it took."""
    LOGGER.info("%s; %.1f s", message, time.monotonic() - _began)


def warn(message: str) -> None:
    """Write one line about something that may be wrong."""
    LOGGER.warning("warning: %s", message)


def fail(message: str) -> None:
    """Write the one line that a command ends with instead of an account."""
    sys.stderr.write(f"{terminal(message)}\n")


def show(lines: Iterable[str]) -> None:
    """Write lines to standard output, for the tools whose result that is."""
    sys.stdout.writelines(f"{terminal(line)}\n" for line in lines)


def progress(items: Iterable[T], *, total: int | None = None, what: str) -> tqdm[T]:
    """Show how far a loop has come, with rate and time left; silent when standard error is no terminal."""
    return tqdm(items, total=total, desc=what, file=sys.stderr, disable=None, leave=False)
