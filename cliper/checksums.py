"""Checksums inside a Parquet file, before its footer, where Parquet's readers do not look.

    column chunks | crc32 of each chunk | MARK | crc32 of the rest | footer | its length | PAR1

Parquet's own checksums cover the bodies of pages alone; a flip in a page's header or in the footer can give other
values. A file without the mark was written before there were checksums, and is not checked.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

import pyarrow.parquet as pq

MARK = b"CRCs"
SUM, SEAL, END = struct.Struct("<I"), struct.Struct("<4sI"), struct.Struct("<I4s")


def add(path: Path) -> None:
    """Put checksums into a Parquet file that is whole."""
    described = pq.read_metadata(path)
    groups, columns = range(described.num_row_groups), range(described.num_columns)
    with path.open("rb+") as file:
        sums = [SUM.pack(_sum(file, described, group, column)) for group in groups for column in columns]
        start = _find_footer(file)
        footer = file.read()
        file.seek(start)
        file.write(b"".join(sums) + SEAL.pack(MARK, zlib.crc32(footer)) + footer)


def check_footer(path: Path) -> None:
    """Raise ValueError if a file's footer is not the one that was written."""
    with path.open("rb") as file:
        file.seek(_find_footer(file) - SEAL.size)
        mark, written = SEAL.unpack(file.read(SEAL.size))
        if mark == MARK and zlib.crc32(file.read()) != written:
            raise ValueError("its footer is not what was written")


def check_columns(
    path: Path, described: pq.FileMetaData, groups: Collection[int], names: Collection[str] | None
) -> None:
    """Raise ValueError if columns (None: all) of row groups are not those that were written.

    described  the file's footer, checked
    """
    with path.open("rb") as file:
        start = _find_footer(file) - SEAL.size
        file.seek(start)
        if file.read(len(MARK)) != MARK:
            return
        for column in range(described.num_columns):
            name = described.schema.column(column).path.partition(".")[0]
            for group in groups if names is None or name in names else ():
                chunk = group * described.num_columns + column
                file.seek(start - SUM.size * (described.num_row_groups * described.num_columns - chunk))
                (written,) = SUM.unpack(file.read(SUM.size))
                if _sum(file, described, group, column) != written:
                    raise ValueError(f"its column {name} is not what was written")


def _sum(file: BinaryIO, described: pq.FileMetaData, group: int, column: int) -> int:
    """Checksum of one column of one row group: headers and bodies of its pages."""
    chunk = described.row_group(group).column(column)
    file.seek(chunk.data_page_offset)  # `files` writes no dictionaries, which would lie before
    return zlib.crc32(file.read(chunk.total_compressed_size))


def _find_footer(file: BinaryIO) -> int:
    """Go to the footer, and return where it begins."""
    end = file.seek(-END.size, os.SEEK_END)
    length, _ = END.unpack(file.read(END.size))
    return file.seek(end - length)
