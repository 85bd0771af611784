"""Train one backbone and rank the items for every user.

In:   the users, items, train and valid tables; the features of the arm and the neighbours for backbones that use them
Out:  history.parquet (loss and validation Recall@20 of each epoch), topk.parquet (the best items of every user at
      the best epoch, without train items), run.json (settings, versions, device, time, memory)

The best epoch is the first with the highest validation Recall@20, not rounded; training stops when it lies
`patience` epochs back. The test split is not read. On a CPU the same seed, settings and versions give the same
bytes. Paper: section 4, "Implementation Details", and appendix A (Adam, learning rate, weight decay, patience).
"""

from __future__ import annotations

import copy
import dataclasses
import math
import platform
import resource
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch

from cliper import backbones, files, log, metrics
from cliper.backbones.base import Backbone, Graphs, Interactions, ItemFeatures, Triples
from cliper.config import CONTENT_FREE, Config, Train
from cliper.errors import ConfigError, DataError, FeatureError, TrainingError
from cliper.graph import Neighbours
from cliper.layout import locate
from cliper.losses import L2_TERMS
from cliper.ranking import Ranking, rank_items
from cliper.sampling import sample_triples
from cliper.schemas import TABLES

VALIDATION_K = 20  # paper, appendix A: early stopping by Recall@20


class Generators(NamedTuple):
    """One source of randomness a purpose, so that a change in one leaves the others as they are."""

    initial: torch.Generator
    shuffle: np.random.Generator
    negatives: np.random.Generator
    edges: np.random.Generator


class Epoch(NamedTuple):
    """One row of the history."""

    epoch: int  # from 1
    loss: float  # mean over the batches
    seconds: float
    valid_recall: float


def spawn_generators(seed: int) -> Generators:
    """Make the generators of one run; nothing else in it is random."""
    initial, *others = np.random.SeedSequence(seed).spawn(4)
    torch_seed = int(initial.generate_state(1, np.uint64)[0])
    return Generators(torch.Generator().manual_seed(torch_seed), *map(np.random.default_rng, others))


def choose_device(name: str) -> torch.device:
    """Turn auto, cpu or cuda into a device. Raises ConfigError for cuda where there is none."""
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise ConfigError("train.device is cuda, but torch sees none here; write auto or cpu")
    return torch.device("cuda" if has_cuda and name != "cpu" else "cpu")


def choose_backbone(name: str, arm: str) -> type[Backbone]:
    """Look the backbone up. Raises ConfigError if it does not go with the arm."""
    found = backbones.find(name)
    if found.uses_features == (arm == CONTENT_FREE):
        wanted = "an arm with features" if found.uses_features else f"the arm {CONTENT_FREE}"
        raise ConfigError(f"backbone {name} does not run with arm {arm!r}; give it {wanted}")
    return found


def check_features(table: pl.DataFrame, n_items: int, *, what: str) -> ItemFeatures:
    """Take the features out of their table, in item order, without the MLP's width.

    Raises FeatureError if an item has no row, or a value is not finite.
    """
    if table["item"].to_list() != list(range(n_items)):
        raise FeatureError(f"{what} has {len(table)} rows, but there are {n_items} items; run fuse again")
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


def train_epoch(
    model: Backbone,
    optimiser: torch.optim.Optimizer,
    interactions: Interactions,
    *,
    settings: Train,
    generators: Generators,
) -> float:
    """Take one step for each batch of the shuffled interactions. Returns the mean loss of the batches."""
    l2_weight = settings.weight_decay if settings.weight_decay_on == "batch" else 0.0
    l2_term = L2_TERMS[settings.behaviour]
    model.start_epoch(generators.edges)
    drawn = sample_triples(
        interactions.users, interactions.items, shuffle=generators.shuffle, negatives=generators.negatives
    )
    device = next(model.parameters()).device
    losses = []
    for batch in torch.from_numpy(drawn).to(device).split(settings.batch_size, dim=1):
        optimiser.zero_grad()
        triples = Triples(*batch)
        loss = model.loss(triples)
        if l2_weight:
            loss = loss + l2_weight * l2_term(*model.decayed(triples))
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return torch.stack(losses).double().mean().item()


@torch.no_grad()
def rank(model: Backbone, interactions: Interactions, k: int) -> Ranking:
    """Rank the k best items for every user, train items left out."""
    users, items = model.embed()
    return rank_items(
        users, items, train_users=interactions.users, train_items=interactions.items, k=k, score=model.score
    )


def mean_recall(ranking: Ranking, valid: pl.DataFrame) -> float:
    """Mean Recall@20 over the users of the validation split."""
    users, items = (valid[name].to_numpy().astype(np.int64) for name in ("user", "item"))
    known, n_relevant = np.unique(users, return_counts=True)
    hits = metrics.find_hits(ranking.items, users, items)[known]
    return float(metrics.recall(hits, n_relevant, VALIDATION_K).mean())


def fit(
    model: Backbone, interactions: Interactions, valid: pl.DataFrame, settings: Train, generators: Generators
) -> list[Epoch]:
    """Train until validation stops to get better, and leave the model in the state of its best epoch.

    valid    user, item; at least one row
    returns  the epochs; the best is the first with the highest valid_recall

    Raises TrainingError if the loss is not finite.
    """
    decay = settings.weight_decay if settings.weight_decay_on == "parameters" else 0.0
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, weight_decay=decay, fused=True)
    history: list[Epoch] = []
    bar = log.progress(range(1, settings.max_epochs + 1), what="epochs")
    for epoch in bar:
        started = time.perf_counter()
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * model.learning_rate_factor(epoch - 1)
        loss = train_epoch(model, optimiser, interactions, settings=settings, generators=generators)
        if not math.isfinite(loss):
            raise TrainingError(f"the loss of epoch {epoch} is {loss}; lower train.learning_rate")
        recall = mean_recall(rank(model, interactions, VALIDATION_K), valid)
        if settings.behaviour == "as_mmrec":
            recall = round(recall, 4)  # the toolbox stops by what it prints
        history.append(Epoch(epoch, loss, time.perf_counter() - started, recall))
        best = best_epoch(history)
        if best.epoch == epoch:
            state = copy.deepcopy(model.state_dict())
        bar.set_postfix(loss=f"{loss:.4f}", best=f"{best.valid_recall:.4f}")
        if epoch - best.epoch >= settings.patience:
            break
    model.load_state_dict(state)
    return history


def best_epoch(history: list[Epoch]) -> Epoch:
    """The first epoch with the highest validation Recall@20."""
    return max(history, key=lambda epoch: epoch.valid_recall)


def history_table(history: list[Epoch]) -> pl.DataFrame:
    """The epochs as rows of the history table."""
    return pl.DataFrame(history, schema=list(TABLES["history"].columns), orient="row")


def ranking_table(ranking: Ranking) -> pl.DataFrame:
    """The ranking as rows of the topk table."""
    users, ranks = np.nonzero(ranking.items >= 0)
    return pl.DataFrame(
        {
            "user": users.astype(np.int32),
            "rank": (ranks + 1).astype(np.int16),
            "item": ranking.items[users, ranks].astype(np.int32),
            "score": ranking.scores[users, ranks],
        }
    )


def describe(model: Backbone, history: list[Epoch], device: torch.device) -> dict[str, Any]:
    """What `run.json` says about how the run went."""
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


def read_interactions(root: Path, dataset: str) -> tuple[Interactions, pl.DataFrame]:
    """Read what of the catalogue a backbone learns from: train, and valid to stop by.

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
    """Read and check the features of one arm; as the toolbox does it, filled rows count as any other."""
    path = locate(config.root, "features", dataset=dataset, arm=arm)
    features = check_features(files.read_table(path, "features"), n_items, what=str(path))
    if config.train.behaviour == "as_mmrec":
        none = np.zeros(n_items, dtype=bool)
        features = features._replace(image_is_filled=none, text_is_filled=none)
    settings = config.arm(arm)
    if settings.fusion != "mlp":
        return features
    return features._replace(mlp_width=features.text.shape[1] // len(config.prompt_set(str(settings.prompts))))


def read_graphs(root: Path, dataset: str, arm: str, chosen: type[Backbone]) -> Graphs:
    """Read the neighbours that a backbone uses."""
    found = {}
    for name in ("image", "text") if chosen.uses_item_graph else ():
        path = locate(root, "item_neighbours", dataset=dataset, arm=arm, modality=name)
        found[name] = as_neighbours(files.read_table(path, "item_neighbours"))
    if chosen.uses_user_graph:
        path = locate(root, "user_neighbours", dataset=dataset)
        found["users"] = as_neighbours(files.read_table(path, "user_neighbours"))
    return Graphs(**found)


def as_neighbours(table: pl.DataFrame) -> Neighbours:
    """Lay a table of neighbours out as a matrix; its first column names the row, -1 ends a list early.

    table   row, rank (from 1, or 0 for a row that has none), neighbour (-1 for none), value
    """
    row, rank, neighbour, value = (table[name].to_numpy() for name in table.columns)
    shape = (row.max(initial=-1) + 1, max(1, rank.max(initial=0)))
    index, closeness = np.full(shape, -1), np.zeros(shape, dtype=np.float32)
    has_any = rank > 0
    index[row[has_any], rank[has_any] - 1] = neighbour[has_any]
    closeness[row[has_any], rank[has_any] - 1] = value[has_any]
    return Neighbours(index, closeness)


def run(config: Config, *, dataset: str, backbone: str, arm: str, seed: int) -> None:
    """Read the tables, train, write history, ranking and run.json."""
    names: dict[str, str | int] = {"dataset": dataset, "backbone": backbone, "arm": arm, "seed": seed}
    config.dataset(dataset)
    chosen, settings, d = choose_backbone(backbone, arm), getattr(config.backbones, backbone), config.arm(arm).d
    device = choose_device(config.train.device)
    torch.set_num_threads(config.train.threads)
    interactions, valid = read_interactions(config.root, dataset)
    features = read_features(config, dataset, arm, interactions.n_items) if chosen.uses_features else None
    graphs = read_graphs(config.root, dataset, arm, chosen)
    generators = spawn_generators(seed)
    model = chosen(
        interactions, features, graphs, settings, d=d, generator=generators.initial, behaviour=config.train.behaviour
    ).to(device)
    history = fit(model, interactions, valid, config.train, generators)
    ranking = ranking_table(rank(model, interactions, max(config.evaluate.cutoffs)))
    outcome = describe(model, history, device)
    sections = {"train": config.train, "backbone": settings, "arm": config.arm(arm), "evaluate": config.evaluate}
    settled = {name: dataclasses.asdict(section) for name, section in sections.items()}
    files.write_table(locate(config.root, "history", **names), "history", history_table(history))
    files.write_table(locate(config.root, "topk", **names), "topk", ranking)
    files.write_json(locate(config.root, "run", **names), {**names, "config": settled, **outcome})
    log.account(
        f"{len(history)} epochs on {outcome['device']}, best {outcome['best_epoch']} with validation Recall@20 "
        f"{outcome['valid_recall@20']:.4f}; {ranking['user'].n_unique()} users ranked; {outcome['seconds']:.1f} s"
    )
