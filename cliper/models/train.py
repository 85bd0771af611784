"""Train one backbone and rank the items for every user.

In:   the users, items, train and valid tables; the features of the arm and the neighbours for backbones that use them
Out:  history.parquet (loss and validation Recall@20 of each epoch), topk.parquet (the best items of every user at
      the best epoch, without train items; under evaluate.mask_valid lists are longer, so that evaluate can drop
      validation items), run.json (settings, versions, device, time, memory)

The best epoch is the first with the highest validation Recall@20, not rounded (as_mmrec: rounded to four decimals);
training stops `patience` epochs after it. The test split is not read. On a CPU the same seed, settings and versions
give the same bytes. Paper: section 4, "Implementation Details", and appendix A (Adam, learning rate, weight decay,
patience).

Items without an image that an arm drops (missing_image: drop_item) keep their numbers. Their train rows are left out,
and they are never recommended. In valid and test they count as misses, so that all arms are measured on the same
interactions. Neighbours of users come from all train rows, those of dropped items included.
"""

from __future__ import annotations

import hashlib
import json
import platform
import resource
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import numpy as np
import polars as pl
import torch

from cliper import files, log
from cliper.arrays import Ints
from cliper.codeid import code_id
from cliper.config import decides
from cliper.device import choose_device, compute_with, describe_cpu
from cliper.errors import DataError, FeatureError
from cliper.layout import At
from cliper.models.backbones.base import Backbone, Given, Interactions, ItemFeatures, ItemNeighbours
from cliper.models.maths.nearest import Neighbours
from cliper.models.maths.ranking import NO_ITEMS
from cliper.models.maths.tables import neighbours_from_table, ranking_to_table
from cliper.models.training.checkpoint import Checkpoint
from cliper.models.training.fitting import Epoch, best_epoch, fit, rank, spawn_generators
from cliper.schemas import TABLES


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


def list_length(job: decides.Train, valid: pl.DataFrame) -> int:
    """How many items to rank for a user, so that `evaluate` still has the largest cutoff after leaving items out.

    valid  user, item; at least one row
    """
    n_left_out = valid.group_by("user").len()["len"].to_numpy().max() if job.mask_valid else 0
    return job.top + int(n_left_out)


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
        **describe_cpu(),
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


def read_interactions(at: At) -> tuple[Interactions, pl.DataFrame]:
    """Read what of the catalogue a backbone learns from: train, and valid to stop by.

    Raises DataError if valid has no row.
    """
    n_users, n_items = (len(files.read_table(at(kind), kind, columns=[kind[:-1]])) for kind in ("users", "items"))
    train, valid = files.read_table(at("train"), "train"), files.read_table(at("valid"), "valid")
    if valid.is_empty():
        dataset = at.names["dataset"]
        raise DataError(
            f"no user of dataset {dataset} has a validation item to stop training by; "
            f"lower datasets.{dataset}.k_core or take more data"
        )
    users, items = (train[name].to_numpy().astype(np.int64) for name in ("user", "item"))
    return Interactions(users, items, n_users, n_items), valid


def read_features(job: decides.Train, at: At, n_items: int) -> ItemFeatures:
    """Read and check the features of one arm; as_mmrec, filled rows count like all others."""
    path = at("features")
    features = check_features(files.read_table(path, "features"), n_items, what=str(path))
    if job.train.behaviour == "as_mmrec":
        none = np.zeros(n_items, dtype=bool)
        features = features._replace(image_is_filled=none, text_is_filled=none)
    if job.n_learned_views is None:
        return features
    return features._replace(mlp_width=features.text.shape[1] // job.n_learned_views)


def items_to_drop(job: decides.Train, at: At) -> Ints:
    """Items without an image of their own, where the arm drops them: (m,)."""
    if not job.drops_items:
        return NO_ITEMS
    is_filled = files.read_table(at("features"), "features", columns=["image_is_filled"])["image_is_filled"]
    return np.flatnonzero(is_filled.to_numpy())


def leave_out(interactions: Interactions, items: Ints) -> Interactions:
    """Leave out all interactions with some items (m,). Raises DataError if none stay."""
    stays = ~np.isin(interactions.items, items)
    if not stays.any():
        raise DataError(
            "every train item is dropped: none has an image; set missing_image to another value than drop_item"
        )
    return interactions._replace(users=interactions.users[stays], items=interactions.items[stays])


def read_item_neighbours(at: At) -> ItemNeighbours:
    """Read the neighbours of items by the features of one arm."""
    tables = {
        modality: files.read_table(at("item_neighbours", modality=modality), "item_neighbours")
        for modality in ItemNeighbours._fields
    }
    return ItemNeighbours(**{modality: neighbours_from_table(table) for modality, table in tables.items()})


def read_user_neighbours(at: At) -> Neighbours:
    """Read the neighbours of users by shared train items."""
    return neighbours_from_table(files.read_table(at("user_neighbours"), "user_neighbours"))


def read_given(job: decides.Train, at: At, interactions: Interactions, generator: torch.Generator) -> Given:
    """Read what the backbone's settings say that it uses."""
    uses = job.backbone.settings
    return Given(
        interactions,
        d=job.d,
        generator=generator,
        behaviour=job.train.behaviour,
        features=read_features(job, at, interactions.n_items) if uses.uses_features else None,
        item_neighbours=read_item_neighbours(at) if uses.uses_item_graph else None,
        user_neighbours=read_user_neighbours(at) if uses.uses_user_graph else None,
    )


def run(job: decides.Train, at: At) -> None:
    """Read the tables, train, write history, ranking and run.json."""
    device = choose_device(job.train.device, setting="train.device")
    compute_with(threads=job.train.threads, kernels_are=job.kernels)
    # Below 1e-38 is 0: InfoNCE's probabilities are full of such values, and a CPU takes six times as long over them.
    torch.set_flush_denormal(True)
    interactions, valid = read_interactions(at)
    dropped = items_to_drop(job, at)
    interactions = leave_out(interactions, dropped)
    generators = spawn_generators(at.names["seed"])
    given = read_given(job, at, interactions, generators.initial)
    model: Backbone = job.backbone.load()(given, job.backbone.settings).to(device)
    code = code_id("train", job.backbone.place)
    provenance = {**at.names, "config": decides.deciding(job), "code": code}
    key = run_key(provenance, given.arrays())
    checkpoint = Checkpoint(at("run").with_name("checkpoint.pt"), key=key)
    size = f"{interactions.n_users:,} users, {interactions.n_items:,} items, {len(interactions.users):,} interactions"
    cell = ", ".join(str(name) for name in at.names.values())
    log.note(f"{cell}: {size}; d {job.d}, learning rate {job.train.learning_rate:g}, on {device}")
    history = fit(model, interactions, valid, job.train, generators, checkpoint, dropped)
    log.note(f"ranks the items for {interactions.n_users:,} users with epoch {best_epoch(history).epoch}")
    ranking = ranking_to_table(rank(model, interactions, list_length(job, valid), dropped))
    outcome = describe(model, history, device)
    files.write_table(at("history"), "history", history_table(history))
    note = {"mask_valid": True} if job.mask_valid else {}
    files.write_table(at("topk"), "topk", ranking, metadata=note)
    files.write_json(at("run"), provenance | outcome)
    checkpoint.remove()
    log.account(
        f"{len(history)} epochs on {outcome['device']}, best {outcome['best_epoch']} with validation Recall@20 "
        f"{outcome['valid_recall@20']:.4f}; {ranking['user'].n_unique()} users ranked"
    )
