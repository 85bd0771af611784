"""Write features as another toolbox reads them, or rankings as another framework measures them.

In:   mmrec, mrlib: train, valid, test, users, items, and the arm's features
      lists:        train, valid, test, users, items, and topk of each cell
Out:  below results/<name>/export/<dataset>/
      mmrec    <arm>/: <dataset>.inter, image_feat.npy, text_feat.npy and maps of ids, for MMRec's data/<dataset>
      mrlib    <arm>/mrlib/: inter.csv, visual_feat.npy, textual_feat.npy and maps of ids, for MRLib's data/<dataset>;
               <dataset>.yaml, for its src/configs/dataset
      lists    <arm>/lists/<backbone>-<seed>.csv: user_id, item_id, score (1 / rank), best first, in the shop's own ids;
               train.csv, valid.csv, test.csv: user_id, item_id
      always   <arm>/features_card.md and .json: encoders, hashes of their weights, prompts, fusion, what was missing

Each option that is left out means all of the run. Filled features are written as they are: toolboxes do not distinguish
them from real ones.
"""

from __future__ import annotations

from cliper import log
from cliper.config import CONTENT_FREE, Cell
from cliper.errors import ConfigError, unknown
from cliper.layout import At, Layout
from cliper.tools.exports import card, lists, toolbox

FORMATS = (*toolbox.TOOLBOXES, "lists")


def run(
    layout: Layout,
    *,
    format: str,  # noqa: A002 - the option's name
    dataset: str | None,
    arm: str | None,
    backbone: str | None,
    seed: int | None,
) -> None:
    """Write the files of one format."""
    if format not in FORMATS:
        raise ConfigError(unknown("format", format, FORMATS))
    if format == "lists":
        export_lists(layout, lists.cells_of(layout.config, dataset=dataset, arm=arm, backbone=backbone, seed=seed))
    elif backbone is not None or seed is not None:
        raise ConfigError(f"--backbone and --seed choose lists; leave them out, {format} takes features")
    elif dataset is not None and arm is not None:  # of the run or not
        export_features(layout, toolbox.TOOLBOXES[format], dataset, arm)
    else:
        for each in with_features(lists.cells_of(layout.config, dataset=dataset, arm=arm)):
            export_features(layout, toolbox.TOOLBOXES[format], *each)


def with_features(cells: list[Cell]) -> list[tuple[str, str]]:
    """Datasets and arms of the cells that use features."""
    return list(dict.fromkeys((cell.dataset, cell.arm) for cell in cells if cell.arm != CONTENT_FREE))


def export_features(layout: Layout, to: toolbox.Toolbox, dataset: str, arm: str) -> None:
    """Write the features of one arm, and their card."""
    at, folder = At(layout, {"dataset": dataset, "arm": arm}), layout.root / "export" / dataset / arm
    written = toolbox.write(to, folder, at)
    card.write(folder, layout.config, at)
    log.account(f"{dataset}, {arm}: {written}")


def export_lists(layout: Layout, cells: list[Cell]) -> None:
    """Write the rankings of cells, the splits of their datasets and the cards of their features."""
    folder = layout.root / "export"
    for dataset in dict.fromkeys(cell.dataset for cell in cells):
        lists.write_splits(folder / dataset, At(layout, {"dataset": dataset}))
    for dataset, arm in with_features(cells):
        card.write(folder / dataset / arm, layout.config, At(layout, {"dataset": dataset, "arm": arm}))
    for cell in cells:
        path = folder / cell.dataset / cell.arm / "lists" / f"{cell.backbone}-{cell.seed}.csv"
        n_users = lists.write_list(path, At(layout, cell._asdict()), mask_valid=layout.config.evaluate.mask_valid)
        log.account(f"{path}: {n_users:,} users")
