"""Train one backbone and rank the items for every user.

In:   the users, items, train and valid tables; the features of the arm and the neighbours for backbones that use them
Out:  history.parquet (loss and validation Recall@20 of each epoch), topk.parquet (the best items of every user at
      the best epoch, without train items; under evaluate.mask_valid lists are longer, so that evaluate can drop
      validation items), run.json (settings, versions, device, time, memory)

The best epoch is the first with the highest validation Recall@20, not rounded; training stops when it lies
`patience` epochs back. The test split is not read. On a CPU the same seed, settings and versions give the same
bytes. Paper: section 4, "Implementation Details", and appendix A (Adam, learning rate, weight decay, patience).

Items without an image that an arm drops (missing_image: drop_item) keep their numbers. Their train rows are left out,
and they are never recommended. Bought in valid or test they count as misses: all arms are measured on the same
purchases. User neighbours are found before, from all train rows.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import resource
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from cliper import files, log
from cliper.arrays import Ints
from cliper.config import CONTENT_FREE, Config, Evaluate
from cliper.device import choose_device
from cliper.errors import ConfigError, DataError, FeatureError, unknown
from cliper.layout import locate
from cliper.models.backbones import BACKBONES
from cliper.models.backbones.base import Backbone, Given, Interactions, ItemFeatures, ItemNeighbours
from cliper.models.maths.nearest import Neighbours
from cliper.models.maths.ranking import NO_ITEMS
from cliper.models.maths.tables import neighbours_from_table, ranking_to_table
from cliper.models.training.checkpoint import Checkpoint
from cliper.models.training.fitting import Epoch, best_epoch, fit, rank, spawn_generators
from cliper.schemas import TABLES
from cliper.stages import code_id
from cliper.variants import load_class


def choose_backbone(name: str, arm: str) -> type[Backbone]:
    """Look the backbone up. Raises ConfigError if it does not go with the arm."""
    if name not in BACKBONES.rows:
        raise ConfigError(unknown("backbone", name, BACKBONES.rows))
    row = BACKBONES.rows[name]
    if row.settings.uses_features == (arm == CONTENT_FREE):
        wanted = "an arm with features" if row.settings.uses_features else f"the arm {CONTENT_FREE}"
        raise ConfigError(f"backbone {name} does not run with arm {arm!r}; give it {wanted}")
    chosen: type[Backbone] = load_class(row.place)
    return chosen


def check_features(table: pl.DataFrame, n_items: int, *, what: str) -> ItemFeatures:
    """Read features off their table, without the MLP's width.

    Raises FeatureError if the rows are not those of the items in their order, or a value is not finite.
    """
    if table["item"].to_list() != list(range(n_items)):
        raise FeatureError(
            f"{what} has {len(table)} rows, not one for each of {n_items} items in order; run fuse again"
        )
    features = ItemFeatures(
        table["image"].to_numpy(),
        table["text"].to_numpy(),
        table["image_is_filled"].to_numpy(),
        table["text_is_filled"].to_numpy(),
    )
    for name in ("image", "text"):
        is_finite = np.isfinite(getattr(features, name)).all(axis=1)
        if not is_finite.all():
            where = f"{(~is_finite).sum()} items (first: item {is_finite.argmin()})"
            raise FeatureError(f"{what}: the {name} features of {where} are not finite; run encode and fuse again")
    return features


def list_length(settings: Evaluate, valid: pl.DataFrame) -> int:
    """Length of a user's ranking: the largest cutoff, plus the most validation items that `evaluate` will leave out.

    valid  user, item; at least one row
    """
    n_left_out = valid.group_by("user").len()["len"].to_numpy().max() if settings.mask_valid else 0
    return max(settings.cutoffs) + int(n_left_out)


def history_table(history: list[Epoch]) -> pl.DataFrame:
    """The epochs as rows of the history table."""
    return pl.DataFrame(history, schema=list(TABLES["history"].columns), orient="row")


def describe(model: Backbone, history: list[Epoch], device: torch.device) -> dict[str, Any]:
    """Outcome of the run, for `run.json`."""
    best = best_epoch(history)
    is_cuda = device.type == "cuda"
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux
    peak_mib = torch.cuda.max_memory_allocated(device) / 2**20 if is_cuda else peak_kib / 2**10
    return {
        "best_epoch": best.epoch,
        "valid_recall@20": best.valid_recall,
        "epochs": len(history),
        "n_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "device": torch.cuda.get_device_name(device) if is_cuda else f"cpu {platform.machine()}",
        "seconds": sum(epoch.seconds for epoch in history),
        "peak_memory_mib": round(peak_mib),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("cliper", "torch", "numpy", "polars")},
    }


def run_key(provenance: dict[str, Any], inputs: Iterable[Iterable[Any] | None]) -> str:
    """Hash of all that decides a run: names, settings, code, and the arrays it reads."""
    digest = hashlib.sha256(json.dumps(provenance, sort_keys=True).encode())
    for part in inputs:
        for value in part or ():
            digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return digest.hexdigest()


def read_interactions(root: Path, dataset: str) -> tuple[Interactions, pl.DataFrame]:
    """Read train, to learn from, and valid, to stop by.

    Raises DataError if valid has no row.
    """
    n_users, n_items = (
        len(files.read_table(locate(root, kind, dataset=dataset), kind, columns=[kind[:-1]]))
        for kind in ("users", "items")
    )
    train = files.read_table(locate(root, "train", dataset=dataset), "train")
    valid = files.read_table(locate(root, "valid", dataset=dataset), "valid")
    if valid.is_empty():
        raise DataError(
            f"no user of dataset {dataset} has a validation item to stop training by; "
            f"lower datasets.{dataset}.k_core or take more data"
        )
    users, items = (train[name].to_numpy().astype(np.int64) for name in ("user", "item"))
    return Interactions(users, items, n_users, n_items), valid


def read_features(config: Config, dataset: str, arm: str, n_items: int) -> ItemFeatures:
    """Read and check the features of one arm; as_mmrec filled rows count as any other."""
    path = locate(config.root, "features", dataset=dataset, arm=arm)
    features = check_features(files.read_table(path, "features"), n_items, what=str(path))
    if config.train.behaviour == "as_mmrec":
        none = np.zeros(n_items, dtype=bool)
        features = features._replace(image_is_filled=none, text_is_filled=none)
    settings = config.arm_of(dataset, arm)
    if settings.fusion != "mlp":
        return features
    return features._replace(mlp_width=features.text.shape[1] // len(config.views_of(settings)))


def items_to_drop(config: Config, dataset: str, arm: str) -> Ints:
    """Items without an image of their own, where the arm drops them: (m,)."""
    if config.arm_of(dataset, arm).missing_image != "drop_item":
        return NO_ITEMS
    path = locate(config.root, "features", dataset=dataset, arm=arm)
    return np.flatnonzero(files.read_table(path, "features", columns=["image_is_filled"])["image_is_filled"].to_numpy())


def leave_out(interactions: Interactions, items: Ints) -> Interactions:
    """Leave out all interactions with some items (m,). Raises DataError if none stay."""
    stays = ~np.isin(interactions.items, items)
    if not stays.any():
        raise DataError(
            "every train item is dropped: none has an image; set missing_image to another value than drop_item"
        )
    return interactions._replace(users=interactions.users[stays], items=interactions.items[stays])


def read_item_neighbours(root: Path, dataset: str, arm: str) -> ItemNeighbours:
    """Read the neighbours of items by the features of one arm."""
    paths = {
        modality: locate(root, "item_neighbours", dataset=dataset, arm=arm, modality=modality)
        for modality in ItemNeighbours._fields
    }
    tables = {modality: files.read_table(path, "item_neighbours") for modality, path in paths.items()}
    return ItemNeighbours(**{modality: neighbours_from_table(table) for modality, table in tables.items()})


def read_user_neighbours(root: Path, dataset: str) -> Neighbours:
    """Read the neighbours of users by shared train items."""
    return neighbours_from_table(files.read_table(locate(root, "user_neighbours", dataset=dataset), "user_neighbours"))


def run(config: Config, *, dataset: str, backbone: str, arm: str, seed: int) -> None:
    """Read the tables, train, write history, ranking and run.json."""
    names: dict[str, str | int] = {"dataset": dataset, "backbone": backbone, "arm": arm, "seed": seed}
    made_by = config.arm_of(dataset, arm)
    chosen, settings = choose_backbone(backbone, arm), getattr(config.backbones, backbone)
    device = choose_device(config.train.device, setting="train.device")
    torch.set_num_threads(config.train.threads)
    # Below 1e-38 is 0: InfoNCE's probabilities are full of such values, and a CPU takes six times as long over them.
    torch.set_flush_denormal(True)
    interactions, valid = read_interactions(config.root, dataset)
    dropped = items_to_drop(config, dataset, arm)
    interactions = leave_out(interactions, dropped)
    uses = chosen.Settings
    features = read_features(config, dataset, arm, interactions.n_items) if uses.uses_features else None
    item_neighbours = read_item_neighbours(config.root, dataset, arm) if uses.uses_item_graph else None
    user_neighbours = read_user_neighbours(config.root, dataset) if uses.uses_user_graph else None
    generators = spawn_generators(seed)
    given = Given(
        interactions,
        d=made_by.d,
        generator=generators.initial,
        behaviour=config.train.behaviour,
        features=features,
        item_neighbours=item_neighbours,
        user_neighbours=user_neighbours,
    )
    model = chosen(given, uses.model_validate(dataclasses.asdict(settings))).to(device)
    sections = {"train": config.train, "backbone": settings, "arm": made_by, "evaluate": config.evaluate}
    settled = {name: dataclasses.asdict(section) for name, section in sections.items()}
    provenance = {**names, "config": settled, "code": code_id("train", backbone)}
    checkpoint = Checkpoint(
        locate(config.root, "run", **names).with_name("checkpoint.pt"),
        key=run_key(provenance, [interactions, features, *(item_neighbours or ()), user_neighbours]),
    )
    history = fit(model, interactions, valid, config.train, generators, checkpoint, dropped)
    ranking = ranking_to_table(rank(model, interactions, list_length(config.evaluate, valid), dropped))
    outcome = describe(model, history, device)
    files.write_table(locate(config.root, "history", **names), "history", history_table(history))
    note = {"mask_valid": True} if config.evaluate.mask_valid else {}
    files.write_table(locate(config.root, "topk", **names), "topk", ranking, metadata=note)
    files.write_json(locate(config.root, "run", **names), provenance | outcome)
    checkpoint.remove()
    log.account(
        f"{len(history)} epochs on {outcome['device']}, best {outcome['best_epoch']} with validation Recall@20 "
        f"{outcome['valid_recall@20']:.4f}; {ranking['user'].n_unique()} users ranked; {outcome['seconds']:.1f} s"
    )
