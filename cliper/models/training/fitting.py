"""Train one backbone: epochs, validation, early stopping, resuming from a checkpoint.

Everything random comes from generators with the cell's seed, one for each purpose. So a run on a CPU repeats byte by
byte, and a run that was killed and resumed ends like one that was not.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch

from cliper import log
from cliper.arrays import Ints
from cliper.config.models import Train
from cliper.errors import TrainingError
from cliper.models.backbones.base import Backbone, Interactions, Triples
from cliper.models.maths import metrics
from cliper.models.maths.losses import L2_TERMS
from cliper.models.maths.ranking import NO_ITEMS, rank_items
from cliper.models.maths.sampling import sample_triples
from cliper.models.maths.tables import Ranking
from cliper.models.training.adam import Adam
from cliper.models.training.checkpoint import Checkpoint

VALIDATION_K = 20  # paper, appendix A: early stopping by Recall@20


class Generators(NamedTuple):
    """One source of randomness for each purpose: a change in one leaves the others as they are."""

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


def negative_candidates(model: Backbone, interactions: Interactions, settings: Train, left_out: Ints) -> Ints:
    """Items that negatives are drawn from, in ascending order: all, or those in train, as the backbone's authors do.

    left_out  (m,) items that are not ranked, and no negatives either
    """
    if model.negatives_from_train or settings.behaviour == "as_mmrec":
        return np.unique(interactions.items)
    return np.setdiff1d(np.arange(interactions.n_items), left_out)


def train_epoch(
    model: Backbone,
    optimiser: Adam,
    interactions: Interactions,
    candidates: Ints,
    *,
    settings: Train,
    generators: Generators,
) -> float:
    """Take one step for each batch of the shuffled interactions. Returns the mean loss of the batches.

    candidates  (m,) items that negatives are drawn from
    """
    l2_weight = settings.weight_decay if settings.weight_decay_on == "batch" else 0.0
    l2_term = L2_TERMS[settings.behaviour]
    model.start_epoch(generators.edges)
    drawn = sample_triples(
        interactions.users, interactions.items, candidates, shuffle=generators.shuffle, negatives=generators.negatives
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
def rank(model: Backbone, interactions: Interactions, k: int, left_out: Ints = NO_ITEMS) -> Ranking:
    """Rank the k best items for every user, without the user's train items and without those left out (m,).

    Raises TrainingError if an embedding is not finite.
    """
    users, items = model.embed()
    if not all(side.isfinite().all() for side in (users, items)):
        raise TrainingError("the embeddings are not finite; lower train.learning_rate")
    return rank_items(
        users,
        items,
        train_users=interactions.users,
        train_items=interactions.items,
        k=k,
        left_out=left_out,
        score=model.score,
    )


def mean_recall(ranking: Ranking, valid: pl.DataFrame) -> float:
    """Mean Recall@20 over the users of the validation split."""
    users, items = (valid[name].to_numpy().astype(np.int64) for name in ("user", "item"))
    _, n_relevant, hits = metrics.hits_by_user(ranking.items, users, items)
    return float(metrics.recall(hits, n_relevant, VALIDATION_K).mean())


def fit(
    model: Backbone,
    interactions: Interactions,
    valid: pl.DataFrame,
    settings: Train,
    generators: Generators,
    checkpoint: Checkpoint,
    left_out: Ints = NO_ITEMS,
    until: int | None = None,
) -> list[Epoch]:
    """Train until validation no longer improves, and leave the model in the state of its best epoch.

    valid       user, item; at least one row
    checkpoint  a killed run resumes from it, to the same result
    left_out    (m,) items that are not ranked
    until       pause after this epoch: the checkpoint then holds the state of the last epoch, and training that begins
                from it goes on as if it had not paused
    returns     the epochs; the best is the first with the highest valid_recall

    Raises TrainingError if the loss is not finite.
    """
    decay = settings.weight_decay if settings.weight_decay_on == "parameters" else 0.0
    optimiser = Adam(model.parameters(), lr=settings.learning_rate, weight_decay=decay)
    history, best_state = resume(checkpoint.load(), model, optimiser, generators)
    rank_k = partial(rank, model, interactions, VALIDATION_K, left_out)
    candidates = negative_candidates(model, interactions, settings, left_out)
    with log.Progress(
        "epochs", settings.max_epochs, n_done=len(history), more=partial(outlook, history, settings)
    ) as shown:
        for epoch in range(len(history) + 1, min(until or settings.max_epochs, settings.max_epochs) + 1):
            if is_over(history, settings):
                break
            history.append(
                run_epoch(model, optimiser, interactions, candidates, valid, settings, generators, rank_k, epoch=epoch)
            )
            if best_epoch(history) is history[-1]:
                best_state = copy.deepcopy(model.state_dict())
            shown.advance()
            checkpoint.save_if_due(partial(snapshot, model, optimiser, generators, history, best_state))
    if until is not None:
        checkpoint.save(snapshot(model, optimiser, generators, history, best_state))
    model.load_state_dict(best_state)
    return history


def outlook(history: list[Epoch], settings: Train) -> str:
    """Loss, best epoch so far, and when training ends if none is better, for a line of progress."""
    best = best_epoch(history)
    last = min(best.epoch + settings.patience, settings.max_epochs)
    return (
        f"loss {history[-1].loss:.4f}; best validation Recall@20 {best.valid_recall:.4f} at epoch {best.epoch}, "
        f"so it ends at {last}"
    )


def is_over(history: list[Epoch], settings: Train) -> bool:
    """Whether the best epoch lies `patience` epochs back."""
    return bool(history) and history[-1].epoch - best_epoch(history).epoch >= settings.patience


def run_epoch(
    model: Backbone,
    optimiser: Adam,
    interactions: Interactions,
    candidates: Ints,
    valid: pl.DataFrame,
    settings: Train,
    generators: Generators,
    rank_k: Callable[[], Ranking],
    *,
    epoch: int,
) -> Epoch:
    """Train one epoch (from 1) and validate. Raises TrainingError if the loss is not finite."""
    started = time.perf_counter()
    optimiser.lr = settings.learning_rate * model.learning_rate_factor(epoch - 1)
    loss = train_epoch(model, optimiser, interactions, candidates, settings=settings, generators=generators)
    if not math.isfinite(loss):
        broken = [name for name, value in model.named_parameters() if not value.isfinite().all()]
        where = f" and {broken[0]} holds values that are not finite" if broken else ""
        raise TrainingError(f"the loss of epoch {epoch} is {loss}{where}; lower train.learning_rate")
    recall = mean_recall(rank_k(), valid)
    if settings.behaviour == "as_mmrec":
        recall = round(recall, 4)  # the toolbox stops by what it prints
    return Epoch(epoch, loss, time.perf_counter() - started, recall)


def snapshot(
    model: Backbone,
    optimiser: Adam,
    generators: Generators,
    history: list[Epoch],
    best_state: dict[str, Any],
) -> dict[str, Any]:
    """State of the run, for a checkpoint: the rest depends on nothing else."""
    return {
        "model": model.state_dict(),
        "best": best_state,
        "optimiser": optimiser.state_dict(),
        "generators": [json.dumps(generator.bit_generator.state) for generator in generators[1:]],
        "history": [tuple(epoch) for epoch in history],
    }


def resume(
    kept: dict[str, Any] | None, model: Backbone, optimiser: Adam, generators: Generators
) -> tuple[list[Epoch], dict[str, Any]]:
    """Restore model, optimiser and generators. Returns the history and the best epoch's state."""
    if kept is None:
        return [], {}
    model.load_state_dict(kept["model"])
    optimiser.load_state_dict(kept["optimiser"])
    for generator, state in zip(generators[1:], kept["generators"], strict=True):
        generator.bit_generator.state = json.loads(state)
    return [Epoch(*epoch) for epoch in kept["history"]], kept["best"]


def best_epoch(history: list[Epoch]) -> Epoch:
    """The first epoch with the highest validation Recall@20."""
    return max(history, key=lambda epoch: epoch.valid_recall)
