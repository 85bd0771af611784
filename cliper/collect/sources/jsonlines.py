"""One JSON object a line, as Amazon-2018 and Amazon-2023 have their metadata."""

from __future__ import annotations

import json
from typing import Any

from cliper.collect.sources.records import joined, require_record
from cliper.errors import SourceError


def _as_number(digits: str) -> int | str:
    """A whole number; one of more digits than Python reads stays a text."""
    try:
        return int(digits)
    except ValueError:
        return digits


DECODER = json.JSONDecoder(strict=False, parse_int=_as_number)  # line breaks and tabs stand unescaped in some texts


def parse_object(line: str, key: str, where: str) -> dict[str, Any]:
    """A line's object with an id under `key`. Raises SourceError."""
    try:
        found = DECODER.decode(line)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{where}: no JSON ({error}); repair or remove the line") from None
    return require_record(found, key, where)


def describe(record: dict[str, Any], texts: tuple[str, ...], where: str) -> str | None:
    """Join the texts under several keys, each a text or a list of texts."""
    return joined([joined(record.get(name), f"{where}, {name}") for name in texts], where)
