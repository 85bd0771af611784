"""What a stage says to its user: progress on a terminal, one line of account at its end."""

from __future__ import annotations

import logging
import re
import shlex
import sys
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

LOGGER = logging.getLogger("cliper")
_began = time.monotonic()
_option = ""  # --config, as the user gave it; "" where it is the default
T = TypeVar("T")


def start(stage: str) -> None:
    """Send the log of one stage to standard error, each line led by the stage's name."""
    logging.basicConfig(stream=sys.stderr, format=f"cliper {stage}: %(message)s", force=True)
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


def progress(items: Iterable[T], *, total: int | None = None, what: str) -> tqdm[T]:
    """Show how far a loop has come, with rate and time left; silent when standard error is no terminal."""
    return tqdm(items, total=total, desc=what, file=sys.stderr, disable=None, leave=False)
