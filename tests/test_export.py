"""What is exported, read back as the toolbox reads it and by our own source."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import polars as pl
import pytest
import toy
import yaml
from ir_measures import Qrel, R, ScoredDoc, nDCG

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
CLIP: dict[str, Any] = {"arms": {"cliper": {"image": "clip-vit-l14", "text": "clip-vit-l14"}}}
TEXT = -np.arange(8, dtype=np.float32).reshape(4, 2) - 0.1


def write_tables(*, asins: list[str | None], times: bool = True, users: str = "u") -> Config:
    """Three users and four items, all that `export` reads."""
    config = toy.settings(**toy.dataset(Path("unused")), **CLIP)
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
    write_what_the_card_shows(config)
    return config


def write_what_the_card_shows(config: Config) -> None:
    """What `fuse` counted of the arm cliper, and its encoder's weights.json."""
    missing = pl.DataFrame({"missing": ["cover image", "title"], "policy": ["mean", "sentence"], "n_items": [2, 1]})
    files.write_table(toy.path(config, "fallbacks", dataset="toy", arm="cliper"), "fallbacks", missing)
    counted = {"n_items": 4, "n_distinct": 4, "min_tokens": 3, "median_tokens": 5.0, "max_tokens": 9}
    tokens = pl.DataFrame([{"view": "title", **counted, "n_truncated": 1, "n_chunked": 0}])
    files.write_table(toy.path(config, "token_report", dataset="toy", arm="cliper"), "token_report", tokens)
    weights = {"id": "c0ffee", "architecture": "ViT-L-14", "licences": {"openai": "MIT | terms"}}
    files.write_json(toy.path(config, "weights", encoder="clip-vit-l14"), weights)


FOLDER = Path("results/toy/export/toy/cliper")
CARD = {"features_card.md", "features_card.json"}


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
    for file in theirs.raw_files("toy", ["cliper"]):
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
        *CARD,
    }


def test_mrlib_finds_its_files_by_the_names_of_its_readme_and_is_told_their_columns(workdir: Path) -> None:
    toy.run("export", write_tables(asins=["A", "B", "C", "D"]), format="mrlib", dataset="toy", arm="cliper")
    folder = FOLDER / "mrlib"
    told = yaml.safe_load((folder / "toy.yaml").read_text())
    with (folder / told["inter_file_name"]).open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter=told["field_separator"]))
    keys = [told[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "inter_splitting_label")]
    triples = [tuple(int(row[key]) for key in keys) for row in rows]
    assert sorted(triples) == sorted((*pair, n) for n, pairs in enumerate(ROWS.values()) for pair in pairs)
    assert told["inter_file_name"] == "inter.csv"
    assert (np.load(folder / "visual_feat.npy") == IMAGE).all()
    assert (np.load(folder / "textual_feat.npy") == TEXT).all()
    assert not list(folder.glob("image_feat*"))  # MRLib takes every *_feat.npy in its folder for a modality


def test_the_card_says_how_the_features_were_made(workdir: Path) -> None:
    config = write_tables(asins=["A", "B", "C", "D"])
    toy.run("export", config, format="mmrec", dataset="toy", arm="cliper")
    card = json.loads((FOLDER / "features_card.json").read_text())
    assert card["encoders"]["clip-vit-l14"]["id"] == "c0ffee"
    made = card["fuse"]["features"]
    assert (made["fusion"], made["temperature"], made["missing_image"], made["control"]) == ("sa", 0.1, "mean", None)
    title = config.prompt_set("as_described")["title"]
    assert card["views"]["title"]["prompt"]["views"]["title"]["prompt"] == title.prompt
    assert card["views"]["title"]["encode"]["overflow"] == config.encode.overflow
    assert card["missing"] == [
        {"missing": "cover image", "policy": "mean", "n_items": 2},
        {"missing": "title", "policy": "sentence", "n_items": 1},
    ]
    assert card["features"] == {"image": {"width": 3, "n_filled": 0}, "text": {"width": 2, "n_filled": 0}}
    features = toy.path(config, "features", dataset="toy", arm="cliper")
    assert card["sha256_of_table"] == files.sha256(features)
    page = (FOLDER / "features_card.md").read_text()
    for said in (
        "| clip-vit-l14 | ViT-L-14 | c0ffee | openai: MIT \\| terms |",
        "| temperature | 0.1 |",
        "terms of both",
    ):
        assert said in page
    assert title.prompt.partition("___")[0] in page


def test_a_card_without_its_weights_names_the_command_that_makes_them(workdir: Path) -> None:
    config = write_tables(asins=["A", "B", "C", "D"])
    toy.path(config, "weights", encoder="clip-vit-l14").unlink()
    with pytest.raises(DataError, match="Run: python -m cliper weights --encoder clip-vit-l14"):
        toy.run("export", config, format="mmrec", dataset="toy", arm="cliper")


N_USERS, N_ITEMS, K = 40, 30, 10
CELL = {"dataset": "toy", "backbone": "freedom", "arm": "cliper", "seed": 1}


def write_cell(*, mask_valid: bool = False, item_ids: bool = True) -> Config:
    """Drawn splits, and lists whose scores tie and are negative. User 1 has no list, ids hold commas and quotes."""
    overlay = {"evaluate": {"mask_valid": mask_valid, "cutoffs": [5, K, 20]}, "tabulate": {"cutoffs": [20]}}
    config = toy.settings(**toy.dataset(Path("unused")), **CLIP, **overlay)
    drawn = np.random.default_rng(0)
    order = np.array([drawn.permutation(N_ITEMS) for _ in range(N_USERS)])
    cut = {"train": order[:, :3], "valid": order[:, 3:4], "test": order[:, 4:7]}
    for split, items in cut.items():
        users = np.repeat(np.arange(N_USERS), items.shape[1])
        table = pl.DataFrame({"user": users, "item": items.ravel(), "timestamp": [None] * items.size})
        table = table.with_columns(pl.col("timestamp").cast(pl.Int64)).sort("user", "item")
        files.write_table(toy.path(config, split, dataset="toy"), split, table)
    named = {"user": range(N_USERS), "user_id": [f'user "{n}", the' for n in range(N_USERS)]}
    files.write_table(toy.path(config, "users", dataset="toy"), "users", pl.DataFrame(named))
    blank = {name: pl.lit(None) for name in TABLES["items"].columns if name not in ("item", "asin")}
    asins = [f"B,{n}" if item_ids else None for n in range(N_ITEMS)]
    items = pl.DataFrame({"item": range(N_ITEMS), "asin": asins}, schema_overrides={"asin": pl.String})
    files.write_table(toy.path(config, "items", dataset="toy"), "items", items.with_columns(**blank))
    lists = [(user, drawn.permutation(order[user, 3:])[:12]) for user in range(N_USERS) if user != 1]
    rows = [(user, rank, item, -1.0 - rank // 3) for user, found in lists for rank, item in enumerate(found, 1)]
    topk = pl.DataFrame(rows, schema=["user", "rank", "item", "score"], orient="row")
    note = {"mask_valid": True} if mask_valid else {}
    files.write_table(toy.path(config, "topk", **CELL), "topk", topk, metadata=note)
    features = pl.DataFrame({"item": [0], "image": IMAGE[:1], "text": TEXT[:1]})
    features = features.with_columns(image_is_filled=pl.lit(False), text_is_filled=pl.lit(False))
    files.write_table(toy.path(config, "features", dataset="toy", arm="cliper"), "features", features)
    write_what_the_card_shows(config)
    return config


LIST = FOLDER / "lists/freedom-1.csv"


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("mask_valid", [False, True])
def test_another_scorer_measures_the_exported_lists_as_evaluate_does(workdir: Path, mask_valid: bool) -> None:
    config = write_cell(mask_valid=mask_valid)
    toy.run("export", config, format="lists", **CELL)
    toy.run("evaluate", config, **CELL)
    ranked = [ScoredDoc(row["user_id"], row["item_id"], float(row["score"])) for row in read_csv(LIST)]
    bought = [Qrel(row["user_id"], row["item_id"], 1) for row in read_csv(FOLDER.parent / "test.csv")]
    ours = files.read_table(toy.path(config, "metrics", **CELL), "metrics").filter(split="test")
    for metric, theirs in (("recall", R), ("ndcg", nDCG)):
        for k in (5, K):
            found = ir_measures.calc_aggregate([theirs @ k], bought, ranked)[theirs @ k]
            assert found == pytest.approx(ours.filter(metric=metric, k=k)["value"].item(), rel=1e-9), (metric, k)
    valid = {(row["user_id"], row["item_id"]) for row in read_csv(FOLDER.parent / "valid.csv")}
    assert mask_valid != bool(valid & {pair[:2] for pair in ranked})


def test_a_list_has_the_shops_own_ids_and_scores_that_fall_and_are_positive(workdir: Path) -> None:
    config = write_cell()
    toy.run("export", config, format="lists", dataset=None, backbone="freedom", arm="cliper", seed=None)
    rows = read_csv(LIST)
    topk = files.read_table(toy.path(config, "topk", **CELL), "topk")
    assert list(rows[0]) == ["user_id", "item_id", "score"]
    pairs = [(row["user_id"], row["item_id"]) for row in rows]
    assert pairs == [(f'user "{user}", the', f"B,{item}") for user, item in topk.select("user", "item").rows()]
    assert [float(row["score"]) for row in rows] == pytest.approx([1 / rank for rank in topk["rank"]])
    assert {path.name for path in FOLDER.iterdir()} == {"lists", *CARD}


def test_items_without_ids_are_listed_by_their_numbers(workdir: Path) -> None:
    config = write_cell(item_ids=False)
    toy.run("export", config, format="lists", **CELL)
    topk = files.read_table(toy.path(config, "topk", **CELL), "topk")
    assert [int(row["item_id"]) for row in read_csv(LIST)] == topk["item"].to_list()


def test_lists_of_cells_that_the_run_does_not_have_are_refused(workdir: Path) -> None:
    config = write_cell()
    with pytest.raises(ConfigError, match="the run has no cell with --backbone freedom --seed 9"):
        toy.run("export", config, format="lists", backbone="freedom", seed=9)
    with pytest.raises(ConfigError, match="--backbone and --seed choose lists; leave them out, mmrec takes features"):
        toy.run("export", config, format="mmrec", **CELL)
    with pytest.raises(DataError, match=r"topk.parquet is missing. Run: python -m cliper train"):
        toy.run("export", config, format="lists", backbone="bpr" if "bpr" in config.run.backbones else "lightgcn")


def test_an_id_that_would_break_the_format_is_refused(workdir: Path) -> None:
    config = write_tables(asins=["A", "B", "C", "D"], users="tab\t")
    with pytest.raises(DataError, match=r"u_id_mapping\.csv: user_id 'tab\\t0' cannot stand between tabs"):
        toy.run("export", config, dataset="toy", arm="cliper", format="mmrec")
    assert not (FOLDER / "u_id_mapping.csv").exists()


def test_an_unknown_format_is_answered_with_the_known_ones(workdir: Path) -> None:
    with pytest.raises(ConfigError, match="unknown format 'recbole'; known: lists, mmrec, mrlib"):
        toy.run("export", write_tables(asins=["A"] * 4), dataset="toy", arm="cliper", format="recbole")


def test_export_is_a_command(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(toy.REPOSITORY / "config.yaml")
    assert main(["export", "--config", config, "--dataset", "baby", "--arm", "cliper", "--format", "mmrec"]) == 2
    assert "train.parquet is missing. Run: python -m cliper catalogue" in capsys.readouterr().err
