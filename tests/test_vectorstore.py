"""The store of vectors: found again by content, written by several at once, and never trusted blindly."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import pytest

from cliper.vectorstore import VectorStore

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


def test_an_absent_folder_holds_nothing(tmp_path):
    assert known(tmp_path / "nowhere", [A]) == {}
