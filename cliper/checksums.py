"""Checksums inside a Parquet file, before its footer, where Parquet's readers do not look.

    column chunks | crc32 of each chunk | MARK | crc32 of the rest | footer | its length | PAR1

Parquet's own checksums cover the bodies of pages alone; a flip in a page's header or in the footer can give other
values. A file without the mark was written before there were checksums, and is not checked.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Collection, Iterable
from itertools import product
from pathlib import Path
from typing import BinaryIO

import pyarrow.parquet as pq

MARK = b"CRCs"
SUM, SEAL, END = struct.Struct("<I"), struct.Struct("<4sI"), 8
PIECE = 2**18  # bytes: stays in a core's cache, which halves the time


def add(path: Path) -> None:
    """Put checksums into a Parquet file that is whole."""
    described = pq.read_metadata(path)
    groups, columns = range(described.num_row_groups), range(described.num_columns)
    with path.open("rb+") as file:
        sums = [_sum(file, described, group, column) for group in groups for column in columns]
        start = file.seek(_find_footer(file))
        footer = file.read()
        file.seek(start)
        file.write(b"".join(map(SUM.pack, sums)) + SEAL.pack(MARK, zlib.crc32(footer)) + footer)


def check_footer(path: Path) -> None:
    """Raise ValueError if a Parquet file is cut, or its footer is not what was written."""
    with path.open("rb") as file:
        mark, written = _read_seal(file)
        if mark == MARK and zlib.crc32(file.read()) != written:
            raise ValueError("its footer is not what was written")


def check_columns(path: Path, described: pq.FileMetaData, groups: Iterable[int], names: Collection[str] | None) -> None:
    """Raise ValueError if columns (None: all) of row groups are not what was written.

    described  the file's footer
    """
    n_columns = described.num_columns
    with path.open("rb") as file:
        mark, _ = _read_seal(file)
        if mark != MARK:
            return
        sums = file.tell() - SEAL.size - SUM.size * described.num_row_groups * n_columns
        for group, column in product(groups, range(n_columns)):
            name = described.schema.column(column).path.partition(".")[0]
            if names is None or name in names:
                file.seek(sums + SUM.size * (group * n_columns + column))
                (written,) = SUM.unpack(file.read(SUM.size))
                if _sum(file, described, group, column) != written:
                    raise ValueError(f"its column {name} is not what was written")


def _sum(file: BinaryIO, described: pq.FileMetaData, group: int, column: int) -> int:
    """Checksum of one column of one row group: headers and bodies of its pages."""
    chunk = described.row_group(group).column(column)
    file.seek(chunk.data_page_offset)  # `files` writes no dictionaries, which would lie before
    found, n_left = 0, chunk.total_compressed_size
    while piece := file.read(min(n_left, PIECE)):
        found, n_left = zlib.crc32(piece, found), n_left - len(piece)
    return found


def _read_seal(file: BinaryIO) -> tuple[bytes, int]:
    """What stands where the mark and the footer's checksum belong; the file is then at its footer."""
    file.seek(max(_find_footer(file) - SEAL.size, 0))
    mark, written = SEAL.unpack(file.read(SEAL.size))
    return mark, written


def _find_footer(file: BinaryIO) -> int:
    """Where the footer begins. Raises ValueError if the end of the file is not Parquet's."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - END, 0))
    last = file.read()
    start = size - END - int.from_bytes(last[:4], "little")
    if not last.endswith(b"PAR1") or start < 4:  # PAR1 stands there, too
        raise ValueError("it is cut, or no Parquet file")
    return start
