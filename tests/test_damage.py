"""Files that were damaged after they were written: no bit flips unseen."""

from __future__ import annotations

from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import toy
from damage import places, unseen

from cliper import files
from cliper.errors import DataError
from cliper.features.encoders import loading
from cliper.features.encoders.base import Weights
from cliper.models.training import checkpoint
from cliper.schemas import BOOL, BYTES, F32, F64, PATHS, STR, TABLES, VECTOR

N = 14
VALUES: dict[str, list[Any]] = {
    STR: [f"text {row:02}" for row in range(N)],
    BOOL: [row % 3 == 0 for row in range(N)],
    BYTES: [bytes([row, 255 - row]) * row for row in range(N)],
    PATHS: [[["Baby", f"{row}"], ["Prams"]] for row in range(N)],
    F32: [row / 8 for row in range(N)],
    F64: [row / 3 for row in range(N)],
}


def column(kind: str, *, has_nulls: bool) -> pl.Series:
    """Values of a column's type, in rising order; each fourth is null where that is allowed."""
    vectors = np.random.default_rng(1).random((N, 3), dtype=np.float32)
    values = pl.Series(vectors if kind == VECTOR else VALUES.get(kind, range(N)))
    return values.zip_with(pl.Series([row % 4 < 3 or not has_nulls for row in range(N)]), values.clear(N))


def write(path: Path, kind: str) -> None:
    """A table of two row groups with all that its schema allows."""
    frame = pl.DataFrame({n: column(t, has_nulls=n in TABLES[kind].nullable) for n, t in TABLES[kind].columns.items()})
    with files.table_writer(path, kind, metadata={"note": "what decides it"}) as append:
        append(frame[:9])
        append(frame[9:])


@pytest.mark.parametrize("kind", TABLES)
def test_no_flipped_bit_of_a_table_goes_unseen(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "t.parquet"
    write(path, kind)
    assert not unseen(path, kind, places(path.stat().st_size, 150, seed=13))


def test_no_flipped_bit_of_a_checkpoint_trains_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_S", 0)
    path = tmp_path / "checkpoint.pt"
    kept = checkpoint.Checkpoint(path, key="a")
    kept.save_if_due(lambda: {"model": {"weight": torch.arange(40.0)}, "history": [(1, 0.5)]})
    sound = path.read_bytes()
    for byte, bit in places(len(sound), 60, seed=13):
        damaged = bytearray(sound)
        damaged[byte] ^= 1 << bit
        path.write_bytes(damaged)
        assert kept.load() is None
        assert not path.exists()
    path.write_bytes(sound)
    assert kept.load()


def test_no_flipped_bit_of_a_note_on_weights_names_others(tmp_path: Path) -> None:
    chosen, written = toy.settings().encoders["minilm"], Weights("a", {"b.safetensors": "0f" * 32}, {"a": "MIT"}, 384)
    path = tmp_path / "weights.json"
    files.write_json(path, loading.note(chosen, written))
    sound = path.read_bytes()
    for byte, bit in product(range(len(sound)), range(8)):
        damaged = bytearray(sound)
        damaged[byte] ^= 1 << bit
        path.write_bytes(damaged)
        with suppress(DataError):
            found = loading.read_weights(chosen, path, name="minilm")
            assert (found.id, found.files) == (written.id, written.files)
