"""What the readers of item metadata share: finding wanted lines in huge files, and reading fields for the items table.

Memory does not grow with a file: it is read in blocks, lines of other items are never parsed, and a line longer than
LONGEST bytes is refused.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO, Any, cast

import polars as pl

from cliper import log
from cliper.errors import SourceError

ITEMS: dict[str, Any] = {
    "asin": pl.String,
    "title": pl.String,
    "brand": pl.String,
    "categories": pl.List(pl.List(pl.String)),
    "description": pl.String,
    "image_url": pl.String,
}
IS_BARE = pl.all_horizontal(pl.col(name).is_null() for name in ITEMS if name != "asin")  # an item without any metadata
BLOCK = 1 << 22  # bytes
MB = 10**6
LONGEST = 1 << 23  # bytes of a line; the longest of Amazon's, with their lists of related items, have about 100 kB
BROKEN_GZIP = (EOFError, zlib.error, OSError)


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading; it is unpacked if its name ends in .gz."""
    return cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def read_blocks(path: Path) -> Iterator[bytes]:
    """A file in blocks of whole lines.

    Raises SourceError if the file is empty, cut or has an overlong line.
    """
    rest, n_lines = b"", 0  # rest: the start of a line that goes on in the next block
    try:
        size = path.stat().st_size
        with open_bytes(path) as file, log.Progress(f"MB of {path.name}", size // MB) as shown:
            packed = getattr(file, "fileobj", file)
            while block := file.read(BLOCK):
                shown.reach(packed.tell() // MB)
                first, end = block.find(b"\n"), block.rfind(b"\n") + 1
                if len(rest) + (first if end else len(block)) > LONGEST:
                    raise SourceError(f"{path}, line {n_lines + 1}: more than {LONGEST:,} bytes; remove the line")
                if end:
                    yield rest + block[:end]
                    n_lines += block.count(b"\n")
                    rest = block[end:]
                else:
                    rest += block
    except BROKEN_GZIP as error:
        raise SourceError(f"{path} is cut or broken ({error}); delete it and fetch it again") from error
    if rest:
        yield rest
    elif not n_lines:
        raise SourceError(f"{path} is empty; delete it and fetch it again")


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number, from 1, and bytes of every line."""
    lines = (line for block in read_blocks(path) for line in block.splitlines())
    yield from enumerate(lines, start=1)


def id_pattern(name: str, *, quotes: str) -> re.Pattern[bytes]:
    r"""What finds an id in a line: the key's name in quotes, blanks, a colon, blanks; group 1 is the quoted id.

    quotes  that may stand around the name and the id

    The id lies in a look-ahead, so that what only looks like one hides no other.

    >>> id_pattern("asin", quotes="'\"").findall(b"{'asin' : \"O'1\"}")
    [b'"O\'1"']
    """
    quoted = "|".join(rf"{quote}[^{quote}\\\n]*(?:\\.[^{quote}\\\n]*)*{quote}" for quote in quotes)
    return re.compile(rf"{name}[{quotes}][^\S\n]*:[^\S\n]*(?=({quoted}))".encode())


def find_lines(path: Path, key: re.Pattern[bytes], ids: set[bytes]) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of the lines in which `key` finds one of `ids`; the caller may remove some meanwhile.

    key  as `id_pattern` makes it; a line whose id has escapes is among them, since only a parser can read those
    """
    number = 1
    for block in read_blocks(path):
        counted = end = 0
        for match in key.finditer(block):
            if match.start() < end or (match[1][1:-1] not in ids and b"\\" not in match[1]):
                continue
            start, end = block.rfind(b"\n", 0, match.start()) + 1, block.find(b"\n", match.end())
            end = len(block) if end < 0 else end
            number, counted = number + block.count(b"\n", counted, start), start
            yield number, block[start:end]
        number += block.count(b"\n", counted)


def read_records(
    path: Path, wanted: Collection[str], *, key: re.Pattern[bytes], parse: Callable[[str, str], dict[str, Any]]
) -> pl.DataFrame:
    """Read the records of the wanted items; one row per item that has a line, the first line of each.

    key      finds an item's id in a line; a false match costs one parse, never a wrong row
    parse    (line, where) -> the columns of ITEMS; raises SourceError
    returns  the columns of ITEMS, sorted by asin

    Bytes that are no UTF-8, and NUL, become the replacement character; a warning counts such lines.
    """
    records, n_replaced = dict[str, dict[str, Any]](), 0
    ids = {asin.encode() for asin in wanted}
    for number, line in find_lines(path, key, ids):
        text = line.decode("utf-8", "replace").replace("\0", "\ufffd")
        record = parse(text, f"{path}, line {number}")
        if (asin := record["asin"].encode("utf-8", "surrogatepass")) in ids:
            ids.remove(asin)
            records[record["asin"]] = record
            n_replaced += "\ufffd" in text
    if n_replaced:
        log.warn(f"{path}: {n_replaced:,} lines of wanted items have bytes that are no text; these became \ufffd")
    return pl.DataFrame([records[asin] for asin in sorted(records)], schema=ITEMS)


def require_record(found: object, key: str, where: str) -> dict[str, Any]:
    """A parsed line, if it is a mapping with an id under `key`. Raises SourceError."""
    if not isinstance(found, dict) or not isinstance(found.get(key), str):
        raise SourceError(f"{where}: no record with {key}; repair or remove the line")
    return found


def as_text(value: object, where: str) -> str | None:
    """A field's text; null where it is empty, NaN or infinite. Raises SourceError if it is no text or number."""
    if value is None or isinstance(value, str):
        return unbroken((value or "").strip()) or None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int | float):
        try:
            return str(value)
        except ValueError:  # Python writes no longer ones
            raise SourceError(f"{where}: a number of more than 4,300 digits; repair or remove the line") from None
    raise SourceError(f"{where}: a {type(value).__name__} instead of a text; repair or remove the line")


def joined(value: object, where: str) -> str | None:
    r"""A text, or a list of texts joined by spaces; null where nothing is left. Raises SourceError.

    >>> joined(["A cup.", "", " Blue\n"], "line 1")
    'A cup. Blue'
    """
    parts = value if isinstance(value, list) else [value]
    return " ".join(text for part in parts if (text := as_text(part, where))) or None


def as_path(value: object, where: str) -> list[list[str]] | None:
    """A flat list of categories as the one path that it is. Raises SourceError."""
    if value is None or value == []:
        return None
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return [[unbroken(name) for name in value]]
    raise SourceError(f"{where}: no list of texts; repair or remove the line")


def unbroken(text: str) -> str:
    r"""A text without halves of surrogate pairs, which cannot be written: pairs are joined, lone halves replaced.

    >>> unbroken("\ud83d\ude00 \ud800") == "\U0001f600 \ufffd"
    True
    """
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
