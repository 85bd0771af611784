"""The store of vectors: found again by content, written by several at once, and never trusted blindly."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import polars as pl
import pytest

from cliper import files
from cliper.features.embeddings.store import VectorStore

FACTS = {"weights": "abc", "precision": "fp32"}
A, B, C = (sha256(name).hexdigest() for name in (b"a", b"b", b"c"))


def vectors(*values):
    return np.array([[value, value + 1] for value in values], np.float32)


def keep(folder, digests, *values, facts=FACTS):
    with VectorStore(folder, facts) as store:
        store.add(digests, vectors(*values))


def known(folder, digests, facts=FACTS):
    found = {}
    for places, rows in VectorStore(folder, facts).find(digests):
        found |= {digests[place]: row.tolist() for place, row in zip(places, rows, strict=True)}
    return found


def test_vectors_are_found_again_by_their_digest(tmp_path):
    keep(tmp_path, [B, A], 5, 3)
    keep(tmp_path, [C], 7)
    assert known(tmp_path, [A, C]) == {A: [3, 4], C: [7, 8]}
    assert known(tmp_path, []) == {}


def test_vectors_made_in_another_way_are_others(tmp_path):
    keep(tmp_path, [A], 3)
    assert known(tmp_path, [A], FACTS | {"precision": "bf16"}) == {}


def test_the_same_vectors_written_by_two_are_kept_once(tmp_path):
    for _ in range(2):
        keep(tmp_path, [A, B], 3, 5)
    keep(tmp_path, [A], 3)  # another file with a vector that is there already
    assert len(list(tmp_path.rglob("*.parquet"))) == 2
    assert known(tmp_path, [A, B]) == {A: [3, 4], B: [5, 6]}


def test_what_was_encoded_before_a_failure_is_kept(tmp_path):
    with pytest.raises(KeyboardInterrupt), VectorStore(tmp_path, FACTS) as store:
        store.add([A], vectors(3))
        raise KeyboardInterrupt
    assert known(tmp_path, [A]) == {A: [3, 4]}


@pytest.mark.parametrize("damage", ["cut", "swapped", "empty"])
def test_a_file_that_does_not_hold_what_its_name_says_is_ignored(tmp_path, caplog, damage):
    keep(tmp_path, [A], 3)
    (first,) = tmp_path.rglob("*.parquet")
    keep(tmp_path, [B], 5)
    (second,) = set(tmp_path.rglob("*.parquet")) - {first}
    content = first.read_bytes()
    first.write_bytes({"cut": content[:-20], "swapped": second.read_bytes(), "empty": b""}[damage])
    assert known(tmp_path, [A, B]) == {B: [5, 6]}
    assert f"warning: {first}" in caplog.text
    assert "it is ignored" in caplog.text


def test_vectors_added_are_found_at_once_and_do_not_count_as_found(tmp_path):
    keep(tmp_path, [A], 3)
    with VectorStore(tmp_path, FACTS) as store:
        store.add([B], vectors(5))
        for _ in range(2):
            assert sorted(place for places, _ in store.find([A, B, C]) for place in places) == [0, 1]
        assert store.n_found == 1


def test_a_file_is_read_only_for_vectors_that_are_in_it(tmp_path, monkeypatch):
    keep(tmp_path, [A], 3)
    keep(tmp_path, [B], 5)
    store, read, count = VectorStore(tmp_path, FACTS), files.read_table, []
    monkeypatch.setattr(files, "read_table", lambda *a, **b: count.append(a) or read(*a, **b))
    list(store.find([B]))
    list(store.find([C]))
    assert len(count) == 1


def test_a_broken_file_does_not_hide_another_with_the_same_vectors(tmp_path, caplog):
    keep(tmp_path, [A, B], 3, 5)
    keep(tmp_path, [A, C], 3, 7)
    for path in sorted(tmp_path.rglob("*.parquet")):
        store, content = VectorStore(tmp_path, FACTS), path.read_bytes()
        path.write_bytes(content[:-20])  # after its digests were read
        found = [place for places, _ in store.find([A]) for place in places]
        path.write_bytes(content)
        assert found == [0]
    assert "it is ignored" in caplog.text


def test_a_file_with_other_vectors_than_its_name_says_is_ignored(tmp_path, caplog):
    keep(tmp_path, [A], 3)
    (path,) = tmp_path.rglob("*.parquet")
    other = files.read_table(path, "vectors").with_columns(embedding=pl.Series(vectors(4)))
    files.write_table(path, "vectors", other)
    assert known(tmp_path, [A]) == {}
    assert "was changed after it was written" in caplog.text


def test_an_absent_folder_holds_nothing(tmp_path):
    assert known(tmp_path / "nowhere", [A]) == {}
