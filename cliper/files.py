"""Read and write tables and small files, whole or not at all.

Every file is written under a temporary name in its own folder, flushed to the disk and renamed, so a killed
or failed stage leaves no half-written output.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from cliper import checksums, log
from cliper.errors import CliperError, DataError, SchemaError
from cliper.schemas import BYTES, PATHS, TABLES, VECTOR, Table
from cliper.stages import command

ARROW_TYPES = {PATHS: pa.list_(pa.list_(pa.string()))}  # types whose names Arrow does not know
BUFFER = 2**20  # bytes of a column read at once; Parquet's default keeps all that was read: 1.2 GB in place of 0.2


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; rename it to `path` if the block succeeds, remove it if not.

    Raises DataError if the disk refuses, for example because it is full, whatever error the writing library has for it.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except CliperError:
        raise
    except Exception as error:
        refusal = error if isinstance(error, OSError) and error.errno is not None else _ask_disk(temporary)
        if refusal is None:
            raise
        reason = os.strerror(refusal.errno or 0)
        raise DataError(f"cannot write {path}: {reason}; free the disk or its rights, run again") from error
    finally:
        temporary.unlink(missing_ok=True)


def _ask_disk(path: Path) -> OSError | None:
    """The disk's error if it takes no more of a file; torch, safetensors and polars have errors of their own for it."""
    try:
        with path.open("ab") as file:
            file.write(bytes(2**20))
            file.flush()
            os.fsync(file.fileno())
    except OSError as refusal:
        return refusal
    return None


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Lock a folder while the block runs; the lock ends with the process, even if that is killed.

    Raises DataError if another process holds the lock, or if its file is a link, which is not followed. On a file
    system without locks, it warns and continues.
    """
    from filelock import FileLock, Timeout  # 60 ms, and few stages lock anything

    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(FileLock(folder / ".lock", blocking=False, fallback_to_soft=False))
        except Timeout:
            raise DataError(f"another process is writing to {folder}; wait for its end or stop it") from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise DataError(f"{folder / '.lock'} is a link; remove it, run again") from None
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            log.warn(f"{folder} is on a file system without locks: let only one process write to it")
        yield


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, keys in the order given."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path, *, made_by: str, keys: Iterable[str] = ()) -> Any:
    """Read a JSON file that a stage wrote. Raises DataError if it is missing or broken.

    keys  that it must have
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing. Run: python -m cliper {made_by}") from None
    except ValueError as error:
        raise DataError(f"{path} is no JSON ({error}); delete it and run: python -m cliper {made_by}") from None
    if absent := [key for key in keys if not isinstance(found, dict) or key not in found]:
        raise DataError(f"{path} lacks {', '.join(absent)}; delete it and run: python -m cliper {made_by}")
    return found


def sha256(path: Path) -> str:
    """Hash of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_table(path: Path, kind: str, frame: pl.DataFrame, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Write one table of `schemas.TABLES` as Parquet, after checking it; see `table_writer`."""
    with table_writer(path, kind, metadata=metadata) as write:
        write(frame)


@contextmanager
def table_writer(
    path: Path, kind: str, *, metadata: Mapping[str, Any] | None = None
) -> Iterator[Callable[[pl.DataFrame], None]]:
    """Yield a function that appends rows to one table of `schemas.TABLES`; the file appears, whole, after the block.

    metadata  goes into the file's own metadata as JSON under "cliper"; no times or machines, so that equal
              inputs give equal bytes

    Call the function at least once. Each call checks its rows and writes them to the disk. It raises SchemaError if a
    column, a null, a key or the order of rows breaks the schema, within these rows or after those of earlier calls.
    """
    note = {"table": kind, "version": TABLES[kind].version, **(metadata or {})}
    with atomic(path) as temporary:
        writer: pq.ParquetWriter | None = None
        last: tuple[Any, ...] | None = None

        def write(frame: pl.DataFrame) -> None:
            nonlocal writer, last
            what = f"{path} ({kind})"
            table = _conform(frame, TABLES[kind], what)
            keys = frame.select(TABLES[kind].key)
            if last is not None and keys.height and keys.row(0) <= last:
                raise SchemaError(f"{what}: rows that begin with {keys.row(0)} are not sorted after {last}")
            if writer is None:
                schema = table.schema.with_metadata({b"cliper": json.dumps(note, sort_keys=True).encode()})
                packing = {name: "NONE" if column == BYTES else "ZSTD" for name, column in TABLES[kind].columns.items()}
                writer = opened.enter_context(
                    pq.ParquetWriter(
                        temporary, schema, compression=packing, use_dictionary=False, write_page_checksum=True
                    )
                )
            if table.schema != writer.schema:
                raise SchemaError(f"{what}: rows have other types than those before: {table.schema}")
            writer.write_table(table, row_group_size=65_536)
            last = keys.row(-1) if keys.height else last

        with ExitStack() as opened:
            yield write
        checksums.add(temporary)


def read_table(path: Path, kind: str, *, columns: list[str] | None = None) -> pl.DataFrame:
    """Read one table of `schemas.TABLES`. Raises DataError if it is missing, damaged or of another kind."""
    with _open(path, kind) as file:
        checksums.check_columns(path, file.metadata, range(file.num_row_groups), columns)
        return _to_frame(file.read(columns=columns))


def count_rows(path: Path, kind: str) -> int:
    """Number of rows of a table, from its footer. Raises as `read_table` does."""
    with _open(path, kind) as file:
        return int(file.metadata.num_rows)


def read_in_batches(path: Path, kind: str, span: tuple[int, int], *, size: int) -> Iterator[pl.DataFrame]:
    """Read the rows span[0] to span[1] - 1 of a table, at most `size` at a time.

    Holds one batch in memory, and the pages of each column that it lies in. Raises as `read_table` does.
    """
    start, stop = span
    with _open(path, kind) as file:
        checksums.check_columns(path, file.metadata, range(file.num_row_groups), None)
        end = 0
        for batch in file.iter_batches(size):
            begin, end = end, end + len(batch)
            if end > start and begin < stop:
                first = max(start - begin, 0)
                yield _to_frame(pa.Table.from_batches([batch.slice(first, min(stop, end) - begin - first)]))


def read_row_group(path: Path, kind: str, row: int, *, columns: list[str]) -> tuple[int, pl.DataFrame]:
    """Read the row group that holds a row. Returns the number of the group's first row, and its rows.

    Raises as `read_table` does, and DataError if the table has no such row.
    """
    with _open(path, kind) as file:
        first = 0
        for group in range(file.num_row_groups):
            end = first + file.metadata.row_group(group).num_rows
            if row < end:
                checksums.check_columns(path, file.metadata, [group], columns)
                return first, _to_frame(file.read_row_group(group, columns=columns))
            first = end
        raise ValueError(f"it has no row {row}")


def read_metadata(path: Path, kind: str) -> dict[str, Any]:
    """The metadata that `write_table` put into a file. Raises as `read_table` does."""
    with _open(path, kind) as file:
        return _note(file.schema_arrow)


@contextmanager
def _open(path: Path, kind: str) -> Iterator[pq.ParquetFile]:
    """Open a table, its footer checked. If it cannot be read or is another, raise an error that says what to do."""
    again = f"Run: {command(TABLES[kind].maker, TABLES[kind].file, path)}"
    try:
        checksums.check_footer(path)
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER) as file:
            note = _note(file.schema_arrow)
            if (note.get("table"), note.get("version")) != (kind, TABLES[kind].version):
                raise SchemaError(
                    f"{path} is not a {kind} table of version {TABLES[kind].version} "
                    f"(it says {note.get('table')} {note.get('version')}). {again}"
                )
            yield file
    except FileNotFoundError:
        raise DataError(f"{path} is missing. {again}") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({first_line(error)}). {again}") from error


def _to_frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _note(schema: pa.Schema) -> dict[str, Any]:
    note: dict[str, Any] = json.loads((schema.metadata or {}).get(b"cliper", b"{}"))
    return note


def first_line(error: BaseException) -> str:
    """First line of an error's message, or the error's class if it has no message."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _conform(frame: pl.DataFrame, schema: Table, what: str) -> pa.Table:
    if missing := [name for name in schema.columns if name not in frame.columns]:
        raise SchemaError(f"{what} lacks the columns {', '.join(missing)}")
    if extra := [name for name in frame.columns if name not in schema.columns]:
        raise SchemaError(f"{what} has columns of no schema: {', '.join(extra)}")
    table = frame.select(list(schema.columns)).to_arrow()
    fields = [pa.field(n, _type(t, table.schema.field(n).type, f"{what}, {n}")) for n, t in schema.columns.items()]
    try:
        table = table.cast(pa.schema(fields))
    except pa.ArrowException as error:
        raise SchemaError(f"{what}: {first_line(error)}") from error
    for name in schema.columns:
        if name not in schema.nullable and table[name].null_count:
            row = frame[name].is_null().arg_max()
            raise SchemaError(f"{what}: column {name} has {table[name].null_count} nulls (first in row {row})")
    _check_key(frame, schema.key, what)
    return table


def _type(column: str, found: pa.DataType, what: str) -> pa.DataType:
    if column != VECTOR:
        return arrow_type(column)
    if not pa.types.is_fixed_size_list(found):
        raise SchemaError(f"{what} is no vector of fixed length but {found}")
    return pa.list_(pa.float32(), found.list_size)


def arrow_type(column: str) -> pa.DataType:
    """Arrow's type of a column of `schemas.TABLES`, other than a vector."""
    return ARROW_TYPES.get(column) or pa.type_for_alias(column)


def _check_key(frame: pl.DataFrame, key: tuple[str, ...], what: str) -> None:
    keys = frame.select(key)
    if (repeated := keys.is_duplicated()).any():
        raise SchemaError(f"{what}: the key {keys.row(_first(repeated), named=True)} occurs in more than one row")
    if not keys.equals(keys.sort(key)):
        raise SchemaError(f"{what}: rows are not sorted by {', '.join(key)}")


def _first(mask: pl.Series) -> int:
    return mask.arg_max() or 0
