"""What is exported, read back as the toolbox reads it and by our own source."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import toy

from cliper import files
from cliper.__main__ import main
from cliper.config import Config
from cliper.errors import ConfigError, DataError
from cliper.schemas import TABLES

ROWS = {
    "train": [(0, 1), (0, 2), (1, 0), (2, 2)],
    "valid": [(0, 3), (1, 2)],
    "test": [(0, 0), (1, 1)],
}
IMAGE = np.arange(12, dtype=np.float32).reshape(4, 3) + 0.1
TEXT = -np.arange(8, dtype=np.float32).reshape(4, 2) - 0.1


def write_tables(*, asins: list[str | None], times: bool = True, users: str = "u") -> Config:
    """Three users and four items, all that `export` reads."""
    config = toy.settings(**toy.dataset(Path("unused")))
    where = {"dataset": "toy"}
    for split, rows in ROWS.items():
        table = pl.DataFrame([(*row, 9 if times else None) for row in rows], orient="row", schema=["user", "item", "t"])
        table = table.select("user", "item", timestamp=pl.col("t").cast(pl.Int64))
        files.write_table(toy.path(config, split, **where), split, table)
    named = pl.DataFrame({"user": range(3), "user_id": [f"{users}{n}" for n in range(3)]})
    files.write_table(toy.path(config, "users", **where), "users", named)
    blank = {name: pl.lit(None) for name in TABLES["items"].columns if name not in ("item", "asin")}
    items = pl.DataFrame({"item": range(4), "asin": asins}, schema_overrides={"asin": pl.String}).with_columns(**blank)
    files.write_table(toy.path(config, "items", **where), "items", items)
    features = pl.DataFrame({"item": range(4), "image": IMAGE, "text": TEXT}).with_columns(
        image_is_filled=pl.lit(False), text_is_filled=pl.lit(False)
    )
    files.write_table(toy.path(config, "features", arm="cliper", **where), "features", features)
    return config


FOLDER = Path("results/toy/export/toy/cliper")


def read_as_the_toolbox(folder: Path, dataset: str) -> tuple[dict[str, list[tuple[int, int]]], int, int]:
    """MMRec's documented way: userID, itemID and x_label by name, tab-separated; counts are the highest id + 1."""
    with (folder / f"{dataset}.inter").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    pairs = [(int(row["userID"]), int(row["itemID"]), int(row["x_label"])) for row in rows]
    splits = {name: [pair[:2] for pair in pairs if pair[2] == n] for n, name in enumerate(("train", "valid", "test"))}
    return splits, max(pair[0] for pair in pairs) + 1, max(pair[1] for pair in pairs) + 1


def test_the_toolbox_reads_the_same_dataset(workdir: Path) -> None:
    toy.run("export", write_tables(asins=["A", "B", "C", "D"]), dataset="toy", arm="cliper", format="mmrec")
    splits, n_users, n_items = read_as_the_toolbox(FOLDER, "toy")
    assert (splits, n_users, n_items) == (ROWS, 3, 4)
    for name, matrix in (("image_feat.npy", IMAGE), ("text_feat.npy", TEXT)):
        loaded = np.load(FOLDER / name)
        assert loaded.dtype == np.float32
        assert loaded.shape[0] == n_items
        assert (loaded == matrix).all()
    assert (FOLDER / "i_id_mapping.csv").read_text() == "asin\titemID\nA\t0\nB\t1\nC\t2\nD\t3\n"
    assert (FOLDER / "u_id_mapping.csv").read_text() == "user_id\tuserID\nu0\t0\nu1\t1\nu2\t2\n"
    assert (FOLDER / "toy.inter").read_text().startswith("userID\titemID\tx_label\ttimestamp\n0\t1\t0\t9\n")


def test_our_own_source_reads_it_back_to_equal_tables_and_features(workdir: Path) -> None:
    ours = write_tables(asins=["A", "B", "C", "D"])
    toy.run("export", ours, dataset="toy", arm="cliper", format="mmrec")
    given = {"cliper": {"image": "image_feat.npy", "text": "text_feat.npy"}}
    source = {"kind": "mmrec", "inter": "toy.inter", "item_ids": "i_id_mapping.csv", "features": given}
    again = {"title": "Again", "source": source | {"mirrors": [str(FOLDER)]}}
    theirs = toy.settings(name="again", run={"datasets": ["toy"]}, datasets={"toy": again})
    for file in theirs.datasets["toy"].raw_files(["cliper"]):
        toy.run("download", theirs, dataset="toy", file=file)
    toy.run("catalogue", theirs, dataset="toy")
    toy.run("fuse", theirs, dataset="toy", arm="cliper")
    for name in ("train", "valid", "test", "items", "features"):
        paths = [toy.path(config, name, dataset="toy", arm="cliper") for config in (ours, theirs)]
        assert paths[0] != paths[1]
        tables = [files.read_table(path, name) for path in paths]
        assert tables[0].equals(tables[1], null_equal=True), name


def test_without_times_and_ids_these_columns_and_files_are_left_out(workdir: Path) -> None:
    toy.run(
        "export", write_tables(asins=["A", None, "C", "D"], times=False), dataset="toy", arm="cliper", format="mmrec"
    )
    assert (FOLDER / "toy.inter").read_text().startswith("userID\titemID\tx_label\n")
    assert {path.name for path in FOLDER.iterdir()} == {
        "toy.inter",
        "u_id_mapping.csv",
        "image_feat.npy",
        "text_feat.npy",
    }


def test_an_id_that_would_break_the_format_is_refused(workdir: Path) -> None:
    config = write_tables(asins=["A", "B", "C", "D"], users="tab\t")
    with pytest.raises(DataError, match=r"u_id_mapping\.csv: user_id 'tab\\t0' cannot stand between tabs"):
        toy.run("export", config, dataset="toy", arm="cliper", format="mmrec")
    assert not (FOLDER / "u_id_mapping.csv").exists()


def test_an_unknown_format_is_answered_with_the_known_ones(workdir: Path) -> None:
    with pytest.raises(ConfigError, match="unknown format 'recbole'; known: mmrec"):
        toy.run("export", write_tables(asins=["A"] * 4), dataset="toy", arm="cliper", format="recbole")


def test_export_is_a_command(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(toy.REPOSITORY / "config.yaml")
    assert main(["export", "--config", config, "--dataset", "baby", "--arm", "cliper", "--format", "mmrec"]) == 2
    assert "train.parquet is missing. Run: python -m cliper catalogue" in capsys.readouterr().err
