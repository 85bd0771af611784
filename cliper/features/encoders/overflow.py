"""Texts longer than the context: how they are cut into slices, and how the slices' vectors become one.

truncate               the text is cut at the context; no slices
chunk_mean             the mean over slices of 230 characters
chunk_sum_as_released  the sum over slices as in the released code, with its bug: some texts get one slice too many

Every slice but the first begins with the view's own words, so that it says what it is about. A slice that is still
longer than the context is cut and counts as truncated; the released code stops with an error there.

Source: paper, section 4, does not say how long texts are encoded; the released code does, by chunk_sum_as_released.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cliper.arrays import Vectors
from cliper.errors import ConfigError, unknown

CHARACTERS = 230  # of a slice, from the released code; about 50 tokens of English


class Overflow(NamedTuple):
    """How one overlong text is encoded: its slices, and how their vectors (n, D) become one (D,)."""

    slices: Callable[[str], list[str]]
    join: Callable[[Vectors], Vectors]


def find(name: str, prefix: str) -> Overflow | None:
    """Look a policy up; None means truncate.

    prefix  text before every slice but the first

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
    """Cut as the released code does: a text whose length is a multiple of 230 has one more slice, only the prefix.

    >>> [len(part) for part in cut_as_released("a" * 460, "It is ")]
    [230, 236, 6]
    """
    return cut(text, prefix) + ([] if len(text) % CHARACTERS else [prefix])


# name -> prefix -> the policy; `base_settings.Policy` lists the same names
POLICIES: dict[str, Callable[[str], Overflow | None]] = {
    "truncate": lambda prefix: None,
    "chunk_mean": lambda prefix: Overflow(lambda text: cut(text, prefix), lambda vectors: vectors.mean(axis=0)),
    "chunk_sum_as_released": lambda prefix: Overflow(
        lambda text: cut_as_released(text, prefix), lambda vectors: vectors.sum(axis=0)
    ),
}
