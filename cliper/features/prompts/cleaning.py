"""Clean values of the metadata, step by named step, and write them as one text.

In:   a value as the items table holds it: a text, or category paths
Out:  the text that fills a prompt's blank; empty when the value is missing

Paper: section 4, "Prompt Design", filters "unnecessary or noisy fields" without saying how. `prompt.clean`, or a view,
names the steps and their order.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import TypeAlias

from cliper.config.features import FieldView
from cliper.resources import noise_values

Value: TypeAlias = str | list[list[str]]  # outer list the category paths, inner list the levels

TAG = re.compile(r"<!--.*?-->|</?[a-z][^<>]*>", re.IGNORECASE | re.DOTALL)
# What pandas reads from a CSV as a missing value: its default na_values ("None" since version 2).
PANDAS_MISSING = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA")
) | {"NULL", "NaN", "None", "n/a", "nan", "null"}
# All of Unicode's but white space, and signs without a shape: soft hyphen, zero-width space, byte order mark, U+FFFD.
CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u200b\ufeff\ufffd]")


def unescape(text: str) -> str:
    """Turn HTML entities into their characters, also those that were escaped twice.

    >>> unescape("Tom &amp;amp; Jerry")
    'Tom & Jerry'
    """
    while (plain := html.unescape(text)) != text:
        text = plain
    return text


def strip_tags(text: str) -> str:
    """Replace each HTML tag and comment by a space.

    >>> strip_tags("a<br/>b, 3 < 4 > 2")
    'a b, 3 < 4 > 2'
    """
    return TAG.sub(" ", text)


def empty_if_noise(text: str) -> str:
    """The text, or an empty one if it only says that there is no value.

    >>> empty_if_noise(" N/A "), empty_if_noise("None the Wiser")
    ('', 'None the Wiser')
    """
    return "" if text.strip().casefold() in _noise() else text


def empty_if_missing_in_csv(text: str) -> str:
    """The text, or an empty one where pandas takes it for a missing value: whole values, in these letters only.

    >>> empty_if_missing_in_csv("None"), empty_if_missing_in_csv("NONE"), empty_if_missing_in_csv("None the Wiser")
    ('', 'NONE', 'None the Wiser')
    """
    return "" if text in PANDAS_MISSING else text


@cache
def _noise() -> frozenset[str]:
    return frozenset(noise_values())


STEPS: dict[str, Callable[[str], str]] = {
    "entities": unescape,
    "tags": strip_tags,
    "control_characters": lambda text: CONTROL.sub("", text),
    "white_space": lambda text: " ".join(text.split()),
    "line_breaks": lambda text: text.replace("\n", " "),
    "noise": empty_if_noise,
    "csv_missing": empty_if_missing_in_csv,
}


def steps_of(value: Value, view: FieldView) -> Iterator[Value]:
    """The value before the first step of a view, and after each; categories are cleaned name by name."""
    yield value
    for name in view.clean:
        step = STEPS[name]
        value = step(value) if isinstance(value, str) else [[step(level) for level in path] for path in value]
        yield value


def write(value: Value, view: FieldView) -> str:
    """A cleaned value as one text, categories as the view wants them."""
    if isinstance(value, str):
        return value
    if view.categories == "first_path":
        return "".join(f"{level} " for path in value[:1] for level in path)
    return ", ".join(dict.fromkeys(level for path in value for level in path if level))


def field_text(value: Value | None, view: FieldView) -> str:
    """One metadata field as its view writes it; empty when it is missing.

    value  null in the metadata: missing
    """
    *_, cleaned = steps_of(value or "", view)
    text = write(cleaned, view)
    return text if len(text) >= view.min_length else ""
