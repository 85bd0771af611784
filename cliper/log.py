"""What a stage tells its user: progress on a terminal, one line of account at its end."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

LOGGER = logging.getLogger("cliper")
T = TypeVar("T")


def start(stage: str) -> None:
    """Send the log of one stage to standard error, each line led by the stage's name."""
    logging.basicConfig(stream=sys.stderr, format=f"cliper {stage}: %(message)s", force=True)
    logging.captureWarnings(capture=True)
    warnings.simplefilter("once")
    LOGGER.setLevel(logging.INFO)


def account(message: str) -> None:
    """Write one line of account: what was done, counted."""
    LOGGER.info(message)


def warn(message: str) -> None:
    """Write one line that a careful user wants to see."""
    LOGGER.warning("warning: %s", message)


def progress(items: Iterable[T], *, total: int | None = None, what: str) -> tqdm[T]:
    """Show how far a loop has come, with rate and time left; silent when standard error is no terminal."""
    return tqdm(items, total=total, desc=what, file=sys.stderr, disable=None, leave=False)
