"""Write a dataset and an arm's features as another toolbox reads them.

In:   train, valid, test, users, items, and the arm's features
Out:  results/<name>/export/<dataset>/<arm>/, in the format of MMRec:
      <dataset>.inter     tab-separated with a header: userID, itemID, x_label (0 train, 1 valid, 2 test), and
                          timestamp where every interaction has one
      image_feat.npy      (I, D) float32, row i for item i
      text_feat.npy       the same, fused
      u_id_mapping.csv    tab-separated: user_id, userID
      i_id_mapping.csv    tab-separated: asin, itemID; not written where items have no ids

MMRec finds them by these names in its folder data/<dataset>/. Filled features are written as they are: MMRec does not
distinguish them from real ones.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from cliper import files, log
from cliper.errors import ConfigError, DataError, unknown
from cliper.layout import At, Layout

LABELS = {"train": 0, "valid": 1, "test": 2}
FORMATS = ("mmrec",)
FEATURES = {"image": "image_feat.npy", "text": "text_feat.npy"}


def label(splits: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """All interactions with MMRec's columns, by user, label and item."""
    parts = [rows.with_columns(x_label=pl.lit(LABELS[split], pl.Int32)) for split, rows in splits.items()]
    every = pl.concat(parts).rename({"user": "userID", "item": "itemID"}).sort("userID", "x_label", "itemID")
    columns = ["userID", "itemID", "x_label"]
    return every.select(columns if every["timestamp"].null_count() else [*columns, "timestamp"])


def write_rows(path: Path, rows: pl.DataFrame) -> None:
    """Write a table with tabs between its values. Raises DataError if a text holds a tab, a line break or a quote."""
    for name in (name for name, kind in rows.schema.items() if kind == pl.String):
        if (unfit := rows.filter(pl.col(name).str.contains(r'[\t\r\n"]'))).height:
            raise DataError(f"{path.name}: {name} {unfit[name][0]!r} cannot stand between tabs; rename it in the data")
    with files.atomic(path) as temporary:
        rows.write_csv(temporary, separator="\t", quote_style="never")


def write_matrix(path: Path, matrix: np.ndarray) -> None:
    """Write a matrix (I, D) with numpy, without pickles."""
    rows = np.ascontiguousarray(matrix, dtype=np.float32)
    with files.atomic(path) as temporary, temporary.open("wb") as out:
        np.lib.format.write_array_header_1_0(out, np.lib.format.header_data_from_array_1_0(rows))
        out.write(rows.data)  # on a full disk, numpy.save may drop the last bytes without an error


def run(layout: Layout, *, dataset: str, arm: str, format: str) -> None:  # noqa: A002 - the option's name
    """Read the tables, write the files."""
    if format not in FORMATS:
        raise ConfigError(unknown("format", format, FORMATS))
    at = At(layout, {"dataset": dataset, "arm": arm})
    splits = {split: files.read_table(at(split), split) for split in LABELS}
    users = files.read_table(at("users"), "users")
    items = files.read_table(at("items"), "items", columns=["item", "asin"])
    features = files.read_table(at("features"), "features")
    if not features["item"].equals(items["item"]):
        raise DataError(f"the features of {arm} are of other items than {dataset} has. Run: python -m cliper fuse")
    folder = layout.root / "export" / dataset / arm
    write_rows(folder / f"{dataset}.inter", label(splits))
    write_rows(folder / "u_id_mapping.csv", users.select("user_id", userID="user"))
    if not items["asin"].null_count():
        write_rows(folder / "i_id_mapping.csv", items.select("asin", itemID="item"))
    for column, name in FEATURES.items():
        write_matrix(folder / name, features[column].to_numpy())
    n_filled = features.select(pl.col("image_is_filled").sum(), pl.col("text_is_filled").sum()).row(0)
    log.account(
        f"{dataset}, {arm}: {folder} with {users.height:,} users, {items.height:,} items, "
        f"{sum(rows.height for rows in splits.values()):,} interactions; filled images {n_filled[0]:,}, "
        f"texts {n_filled[1]:,}"
    )
