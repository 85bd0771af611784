"""Texts longer than the context: in which slices they are encoded, and how the slices' vectors become one.

truncate               what lies beyond the context is not read (no entry below)
chunk_mean             the mean over slices of 230 characters
chunk_sum_as_released  the released code's way: their sum, with its slip of a slice without text

The later slices begin with the view's own words, so that each says what it is about. A slice that is still longer
than the context is cut and counts as truncated; there the released code stops with an error.

Source: paper, section 4, says nothing of long texts; the released code sums, and so do we where it is named.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cliper.arrays import Vectors
from cliper.errors import ConfigError, unknown

CHARACTERS = 230  # of a slice, from the released code; about 50 tokens of English


class Overflow(NamedTuple):
    """What becomes of one overlong text: its slices, and how their vectors (n, D) are joined to (D,)."""

    slices: Callable[[str], list[str]]
    join: Callable[[Vectors], Vectors]


def find(name: str, prefix: str) -> Overflow | None:
    """Look a policy up; None stands for truncate.

    prefix  what stands before every slice but the first

    Raises ConfigError with the known names.
    """
    if name not in POLICIES:
        raise ConfigError(unknown("overflow", name, POLICIES))
    return POLICIES[name](prefix)


def cut(text: str, prefix: str) -> list[str]:
    """Cut a text into slices of 230 characters.

    >>> [len(part) for part in cut("a" * 460, "It is ")]
    [230, 236]
    """
    starts = range(0, len(text), CHARACTERS)
    return [(prefix if start else "") + text[start : start + CHARACTERS] for start in starts]


def cut_as_released(text: str, prefix: str) -> list[str]:
    """The same with the released code's number of slices: a multiple of 230 has one more, of the prefix alone.

    >>> [len(part) for part in cut_as_released("a" * 460, "It is ")]
    [230, 236, 6]
    """
    return cut(text, prefix) + ([] if len(text) % CHARACTERS else [prefix])


# prefix -> the policy; the names stand in `base_settings.Policy` too
POLICIES: dict[str, Callable[[str], Overflow | None]] = {
    "truncate": lambda prefix: None,
    "chunk_mean": lambda prefix: Overflow(lambda text: cut(text, prefix), lambda vectors: vectors.mean(axis=0)),
    "chunk_sum_as_released": lambda prefix: Overflow(
        lambda text: cut_as_released(text, prefix), lambda vectors: vectors.sum(axis=0)
    ),
}
