"""Who rated what, as Amazon's files of all years hold it: CSV of ratings, JSON lines of reviews."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from cliper.collect.sources.records import BROKEN_GZIP, open_bytes, read_blocks
from cliper.errors import SourceError

TYPES = {"user_id": pl.String, "asin": pl.String, "rating": pl.Float64, "timestamp": pl.Int64}


def read_ratings(path: Path, columns: Sequence[str], *, has_header: bool = False) -> pl.DataFrame:
    """Read a CSV of ratings in the file's order.

    columns  user_id, asin, rating and timestamp in the order in which the file has them

    Raises SourceError naming the line that is broken.
    """
    schema = {name: TYPES[name] for name in columns}
    try:
        frame = pl.read_csv(path, has_header=False, skip_rows=int(has_header), schema=schema, quote_char=None)
    except (pl.exceptions.PolarsError, *BROKEN_GZIP) as error:
        raise SourceError(f"{path}, {_first_bad_rating(path, columns, has_header)}; repair or remove it") from error
    return require_complete(frame.select(list(TYPES)), path, first_line=1 + has_header)


def read_reviews(path: Path, names: Mapping[str, str]) -> pl.DataFrame:
    """Read JSON lines of reviews in the file's order, without their texts.

    names  user_id, asin, rating, timestamp -> the file's name of it

    Raises SourceError naming the line that lacks one of them, or the file if a line is no JSON.
    """
    schema = {names[column]: kind for column, kind in TYPES.items()}
    try:
        parts = [pl.read_ndjson(block, schema=schema) for block in read_blocks(path)]
    except pl.exceptions.PolarsError as error:
        raise SourceError(f"{path}: {' '.join(str(error).split())[:200]}; fetch it again") from error
    frame = pl.concat(parts) if parts else pl.DataFrame(schema=schema)
    return require_complete(frame.select(**{column: names[column] for column in TYPES}), path)


def require_complete(frame: pl.DataFrame, path: Path, *, first_line: int = 1) -> pl.DataFrame:
    """Raise SourceError if there is no row, or naming the first line with a value missing."""
    if frame.is_empty():
        raise SourceError(f"{path} is empty; fetch it again")
    incomplete = frame.select(pl.any_horizontal(pl.all().is_null())).to_series()
    if incomplete.any():
        line = (incomplete.arg_max() or 0) + first_line
        raise SourceError(f"{path}, line {line}: a value is missing; repair or remove it")
    return frame


def _first_bad_rating(path: Path, columns: Sequence[str], has_header: bool) -> str:
    """Find the line that the fast reader could not read."""
    number = 0
    try:
        with open_bytes(path) as lines:
            for number, line in enumerate(lines, start=1):
                fields = line.decode("utf-8").rstrip("\r\n").split(",")
                if len(fields) != len(columns):
                    return f"line {number}: {len(fields)} columns instead of {', '.join(columns)}"
                values = dict(zip(columns, fields, strict=True))
                if number > has_header and not _is_number(values["rating"], values["timestamp"]):
                    return f"line {number}: rating {values['rating']!r} or time {values['timestamp']!r} is no number"
    except UnicodeDecodeError:
        return f"line {number}: no UTF-8"
    except BROKEN_GZIP as error:
        return f"after line {number}: {error}"
    return "a line that cannot be read"


def _is_number(rating: str, timestamp: str) -> bool:
    try:
        float(rating), int(timestamp)
    except ValueError:
        return False
    return True
