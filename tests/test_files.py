from __future__ import annotations

import errno
import fcntl
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from cliper import files
from cliper.errors import DataError, SchemaError
from cliper.layout import FILES
from cliper.models.training.checkpoint import EVERY_S, Checkpoint
from cliper.schemas import TABLES
from cliper.stages import STAGES
from cliper.tools.exports.toolbox import write_matrix, write_rows

USERS = pl.DataFrame({"user": [0, 1], "user_id": ["a", "b"]})


def test_a_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    files.write_table(tmp_path / "u.parquet", "users", USERS, metadata={"note": 1})
    assert files.read_table(tmp_path / "u.parquet", "users").equals(USERS)
    assert files.read_metadata(tmp_path / "u.parquet", "users")["note"] == 1


def test_equal_tables_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        files.write_table(tmp_path / name, "users", USERS, metadata={"z": 1, "a": 2})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_vectors_keep_their_length(tmp_path: Path) -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    table = pl.DataFrame({"item": [0, 1], "status": ["ok", "ok"], "embedding": vectors})
    files.write_table(tmp_path / "v", "image_embeddings", table)
    read = files.read_table(tmp_path / "v", "image_embeddings")["embedding"].to_numpy()
    assert read.dtype == np.float32
    assert (read == vectors).all()


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        (USERS.drop("user_id"), "lacks the columns user_id"),
        (USERS.with_columns(more=1), "columns of no schema: more"),
        (USERS.reverse(), "not sorted by user"),
        (pl.concat([USERS, USERS]).sort("user"), "'user': 0} occurs in more than one row"),
        (USERS.with_columns(user_id=pl.lit(None, pl.String)), "user_id has 2 nulls"),
        (USERS.with_columns(user=pl.col("user") + 2**40), "users"),
    ],
)
def test_a_table_that_breaks_its_schema_is_refused(tmp_path: Path, table: pl.DataFrame, complaint: str) -> None:
    with pytest.raises(SchemaError, match=complaint):
        files.write_table(tmp_path / "u", "users", table)
    assert list(tmp_path.iterdir()) == []


def test_vectors_of_no_fixed_length_are_refused(tmp_path: Path) -> None:
    table = pl.DataFrame({"item": [0], "status": ["ok"], "embedding": [[1.0, 2.0]]})
    with pytest.raises(SchemaError, match="no vector of fixed length"):
        files.write_table(tmp_path / "v", "image_embeddings", table)


MANY = pl.DataFrame({"user": range(10), "user_id": list("abcdefghij")})


def test_a_table_written_in_batches_is_read_as_one_and_in_parts(tmp_path: Path) -> None:
    with files.table_writer(tmp_path / "u", "users", metadata={"note": 1}) as write:
        for start, stop in ((0, 3), (3, 3), (3, 9), (9, 10)):
            write(MANY[start:stop])
        assert not (tmp_path / "u").exists()
    assert files.read_table(tmp_path / "u", "users").equals(MANY)
    assert files.read_metadata(tmp_path / "u", "users")["note"] == 1
    assert files.count_rows(tmp_path / "u", "users") == 10
    for size in (1, 4, 100):
        parts = list(files.read_in_batches(tmp_path / "u", "users", (2, 8), size=size))
        assert pl.concat(parts).equals(MANY[2:8])
        assert max(part.height for part in parts) <= size


@pytest.mark.parametrize(
    ("second", "complaint"),
    [
        (MANY[1:4], r"begin with \(1,\) are not sorted after \(2,\)"),
        (MANY[2:4], r"begin with \(2,\) are not sorted after \(2,\)"),
        (MANY[3:5].reverse(), "not sorted by user"),
        (MANY[3:5].with_columns(user_id=None), "user_id has 2 nulls"),
    ],
)
def test_a_batch_that_breaks_the_table_leaves_no_file(tmp_path: Path, second: pl.DataFrame, complaint: str) -> None:
    def write_both() -> None:
        with files.table_writer(tmp_path / "u", "users") as write:
            write(MANY[:3])
            write(second)

    with pytest.raises(SchemaError, match=complaint):
        write_both()
    assert list(tmp_path.iterdir()) == []


def test_vectors_of_another_length_than_those_before_are_refused(tmp_path: Path) -> None:
    def batch(item: int, dim: int) -> pl.DataFrame:
        vector = pl.Series([[1.0] * dim], dtype=pl.Array(pl.Float32, dim))
        return pl.DataFrame({"item": [item], "status": ["ok"], "embedding": vector})

    def write_both() -> None:
        with files.table_writer(tmp_path / "v", "image_embeddings") as write:
            write(batch(0, 2))
            write(batch(1, 3))

    with pytest.raises(SchemaError, match="other types than those before"):
        write_both()


def test_a_missing_table_names_the_stage_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="items.parquet is missing. Run: python -m cliper catalogue"):
        files.read_table(tmp_path / "items.parquet", "items")


def test_a_broken_or_foreign_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="cannot be read"):
        files.read_table(tmp_path / "broken", "users")
    files.write_table(tmp_path / "u", "users", USERS)
    with pytest.raises(SchemaError, match="not a items table"):
        files.read_table(tmp_path / "u", "items")
    with pytest.raises(SchemaError, match="not a items table"):
        list(files.read_in_batches(tmp_path / "u", "items", (0, 1), size=1))
    with pytest.raises(DataError, match="cannot be read"):
        list(files.read_in_batches(tmp_path / "broken", "users", (0, 1), size=1))


@pytest.mark.parametrize("frame", [USERS, USERS.clear()])
def test_a_table_that_is_older_than_checksums_is_read(tmp_path: Path, frame: pl.DataFrame) -> None:
    files.write_table(tmp_path / "new", "users", frame)
    pq.write_table(pq.read_table(tmp_path / "new"), tmp_path / "old")
    assert files.read_table(tmp_path / "old", "users").equals(frame)


@pytest.mark.parametrize("frame", [USERS, USERS.clear()])
def test_a_table_with_checksums_is_parquet_to_others(tmp_path: Path, frame: pl.DataFrame) -> None:
    files.write_table(tmp_path / "t", "users", frame)
    for use_pyarrow in (False, True):
        assert pl.read_parquet(tmp_path / "t", use_pyarrow=use_pyarrow).equals(frame)
    assert pq.ParquetFile(tmp_path / "t", page_checksum_verification=True).read().num_rows == frame.height


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t").write_text("old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DataError, match="cannot write .*: No space left on device; free"):
        files.write_text(tmp_path / "t", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["t"]
    assert (tmp_path / "t").read_text() == "old"


@contextmanager
def disk_for(n_bytes: int) -> Iterator[None]:
    """Let no file grow beyond a size: the system refuses the rest as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


ROWS = pl.DataFrame({"user": range(40_000), "user_id": map(str, range(40_000))})
VECTORS = np.random.default_rng(1).random((40_000, 2), dtype=np.float32)


def write_checkpoint(path: Path) -> None:
    kept = Checkpoint(path, key="a")
    kept._written -= EVERY_S
    kept.save_if_due(lambda: {"model": torch.from_numpy(VECTORS)})


def write_weights(path: Path) -> None:
    with files.atomic(path) as temporary:
        save_file({"weight": torch.from_numpy(VECTORS)}, temporary)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: files.write_table(path, "users", ROWS),
        lambda path: files.write_json(path, ROWS["user_id"].to_list()),
        lambda path: write_rows(path, ROWS),
        lambda path: write_matrix(path, VECTORS),
        write_checkpoint,
        write_weights,
    ],
    ids=["table", "json", "csv", "npy", "checkpoint", "safetensors"],
)
def test_wherever_the_disk_is_full_there_is_one_sentence_and_the_former_file(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    path = tmp_path / "file"
    write(path)
    former = path.read_bytes()
    for n_bytes in (*range(0, len(former), len(former) // 7), len(former) - 1):
        with disk_for(n_bytes), pytest.raises(DataError, match=r"cannot write .*/file: File too large; free the disk"):
            write(path)
        assert list(tmp_path.iterdir()) == [path]
        assert path.read_bytes() == former


def test_an_error_that_is_not_the_disks_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a bug"), files.atomic(tmp_path / "t"):
        raise RuntimeError("a bug")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_never_seen_half_written(tmp_path: Path) -> None:
    target = tmp_path / "t"
    with pytest.raises(KeyboardInterrupt), files.atomic(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_every_table_has_a_maker_and_a_file() -> None:
    others = {"raw", "weights", "run", "trial_state", "selected", "table", "figure", "explored", "page"}
    assert set(FILES) == others | set(TABLES)
    assert {maker for maker, _ in FILES.values()} <= set(STAGES)


def test_a_lock_that_is_a_link_is_refused_and_empties_nothing(workdir: Path) -> None:
    Path("precious.txt").write_text("data")
    Path("folder").mkdir()
    Path("folder/.lock").symlink_to(workdir / "precious.txt")
    with pytest.raises(DataError, match=r"folder/\.lock is a link; remove it"), files.sole_writer(Path("folder")):
        pass
    assert Path("precious.txt").read_text() == "data"


def test_without_locks_there_is_a_warning_and_the_work_continues(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    done = []
    with files.sole_writer(Path("folder")):
        done.append(True)
    assert done and "folder is on a file system without locks: let only one process write to it" in caplog.text
