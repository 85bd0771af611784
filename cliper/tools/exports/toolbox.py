"""A dataset and an arm's features in the files that another toolbox reads.

mmrec  in its folder data/<dataset>:
       <dataset>.inter    userID, itemID, x_label (0 train, 1 valid, 2 test), timestamp where every interaction has one
       image_feat.npy     (I, D) float32, row i for item i
       text_feat.npy      the same, fused
mrlib  the same in a folder mrlib/: inter.csv (commas), visual_feat.npy, textual_feat.npy; and <dataset>.yaml, which
       tells MRLib their names, for its folder src/configs/dataset

Both with u_id_mapping.csv (user_id, userID), and i_id_mapping.csv (asin, itemID) where items have ids; between tabs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from cliper import files
from cliper.errors import DataError
from cliper.layout import At

LABELS = {"train": 0, "valid": 1, "test": 2}


class Toolbox(NamedTuple):
    """How a toolbox names its files."""

    folder: str  # below the arm's
    inter: str
    separator: str
    image: str
    text: str
    settings: str | None = None  # file in which it is told these names


TOOLBOXES = {
    "mmrec": Toolbox("", "{dataset}.inter", "\t", "image_feat.npy", "text_feat.npy"),
    "mrlib": Toolbox("mrlib", "inter.csv", ",", "visual_feat.npy", "textual_feat.npy", "{dataset}.yaml"),
}


def write(toolbox: Toolbox, folder: Path, at: At) -> str:
    """Write an arm's files below a folder; say what they hold. Raises DataError if features and items differ."""
    dataset, folder = at.names["dataset"], folder / toolbox.folder
    splits = {split: files.read_table(at(split), split) for split in LABELS}
    users = files.read_table(at("users"), "users")
    items = files.read_table(at("items"), "items", columns=["item", "asin"])
    features = files.read_table(at("features"), "features")
    if not features["item"].equals(items["item"]):
        arm = at.names["arm"]
        raise DataError(f"the features of {arm} are of other items than {dataset} has. Run: python -m cliper fuse")
    inter = toolbox.inter.format(dataset=dataset)
    write_rows(folder / inter, label(splits), separator=toolbox.separator)
    write_rows(folder / "u_id_mapping.csv", users.select("user_id", userID="user"))
    if not items["asin"].null_count():
        write_rows(folder / "i_id_mapping.csv", items.select("asin", itemID="item"))
    write_matrix(folder / toolbox.image, features["image"].to_numpy())
    write_matrix(folder / toolbox.text, features["text"].to_numpy())
    if toolbox.settings is not None:
        names = {"USER_ID_FIELD": "userID", "ITEM_ID_FIELD": "itemID", "TIME_FIELD": "timestamp"}
        names |= {"inter_splitting_label": "x_label", "inter_file_name": inter, "field_separator": toolbox.separator}
        lines = (f"{key}: {json.dumps(value)}\n" for key, value in names.items())
        files.write_text(folder / toolbox.settings.format(dataset=dataset), "".join(lines))
    n_filled = features.select(pl.col("image_is_filled").sum(), pl.col("text_is_filled").sum()).row(0)
    return (
        f"{folder} with {users.height:,} users, {items.height:,} items, "
        f"{sum(rows.height for rows in splits.values()):,} interactions; filled images {n_filled[0]:,}, "
        f"texts {n_filled[1]:,}"
    )


def label(splits: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """All interactions with MMRec's columns, by user, label and item."""
    parts = [rows.with_columns(x_label=pl.lit(LABELS[split], pl.Int32)) for split, rows in splits.items()]
    every = pl.concat(parts).rename({"user": "userID", "item": "itemID"}).sort("userID", "x_label", "itemID")
    columns = ["userID", "itemID", "x_label"]
    return every.select(columns if every["timestamp"].null_count() else [*columns, "timestamp"])


def write_rows(path: Path, rows: pl.DataFrame, *, separator: str = "\t") -> None:
    """Write a table with tabs or commas between its values, never quoted.

    Raises DataError if a text holds a tab, a line break or a quote.
    """
    for name in (name for name, kind in rows.schema.items() if kind == pl.String):
        if (unfit := rows.filter(pl.col(name).str.contains(r'[\t\r\n"]'))).height:
            raise DataError(f"{path.name}: {name} {unfit[name][0]!r} cannot stand between tabs; rename it in the data")
    with files.atomic(path) as temporary:
        rows.write_csv(temporary, separator=separator, quote_style="never")


def write_matrix(path: Path, matrix: np.ndarray) -> None:
    """Write a matrix (I, D) with numpy, without pickles."""
    rows = np.ascontiguousarray(matrix, dtype=np.float32)
    with files.atomic(path) as temporary, temporary.open("wb") as out:
        np.lib.format.write_array_header_1_0(out, np.lib.format.header_data_from_array_1_0(rows))
        out.write(rows.data)  # on a full disk, numpy.save may drop the last bytes without an error
