"""A text word by word: how many tokens each word adds, and how many words fit into an encoder's context."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

WORD = re.compile(r"\S{1,24}")  # a longer one, as of a script without blanks, is shown in pieces
N_WORDS, N_CHARACTERS = 250, 2_500  # of a text that are shown: the time to count grows with their product
BATCH = 1_000  # texts in one call of a counter


class Words(NamedTuple):
    """A text's words."""

    words: list[tuple[str, int]]  # those that are shown, each with the tokens that it adds
    n_words: int  # all
    n_fitting: int  # the first of the shown ones that fit into the context
    n_tokens: int  # of the whole text, marks of start and end included


def count_words(texts: list[str], count: Callable[[list[str]], list[int]], *, context: int) -> list[Words]:
    """Count the tokens of texts up to the end of each word.

    count    the lengths of texts in tokens, before truncation
    context  tokens that the encoder reads

    A word that takes the text into fewer tokens adds none. Words fit as long as the text up to them does, with the
    mark of its end.

    >>> by_letters = lambda texts: [len(text.replace(" ", "")) + 2 for text in texts]
    >>> count_words(["a red lamp"], by_letters, context=6)
    [Words(words=[('a', 1), ('red', 3), ('lamp', 4)], n_words=3, n_fitting=2, n_tokens=10)]
    """
    ends = [_shown_ends(text) for text in texts]
    beginnings = [[text[:end] for _, end in places] for text, places in zip(texts, ends, strict=True)]
    n_tokens = _count_all(["", *texts, *(text for each in beginnings for text in each)], count)
    found = []
    for text, places, prefixes in zip(texts, ends, beginnings, strict=True):
        sums = [n_tokens[""]]
        for prefix in prefixes:
            sums.append(max(sums[-1], n_tokens[prefix]))
        words = [(text[begin:end], n - before) for (begin, end), before, n in zip(places, sums, sums[1:], strict=False)]
        n_words = sum(1 for _ in WORD.finditer(text))
        found.append(Words(words, n_words, sum(n <= context for n in sums[1:]), n_tokens[text]))
    return found


def _shown_ends(text: str) -> list[tuple[int, int]]:
    """Begin and end of each word that is shown."""
    return [found.span() for found in islice(WORD.finditer(text[:N_CHARACTERS]), N_WORDS)]


def _count_all(texts: list[str], count: Callable[[list[str]], list[int]]) -> dict[str, int]:
    distinct = list(dict.fromkeys(texts))
    batches = [distinct[start : start + BATCH] for start in range(0, len(distinct), BATCH)]
    return {text: n for batch in batches for text, n in zip(batch, count(batch), strict=True)}
