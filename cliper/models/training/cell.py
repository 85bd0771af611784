"""Train one cell, or a part of it, and rank the items with its best epoch."""

from __future__ import annotations

import hashlib
import json
import platform
import resource
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch

from cliper import log
from cliper.config import decides
from cliper.device import choose_device, compute_with, describe_cpu
from cliper.layout import At
from cliper.models.backbones.base import Backbone
from cliper.models.maths.tables import ranking_to_table
from cliper.models.training.checkpoint import Checkpoint
from cliper.models.training.fitting import Epoch, best_epoch, fit, rank, spawn_generators
from cliper.models.training.inputs import items_to_drop, leave_out, read_given, read_interactions
from cliper.schemas import TABLES


class Trained(NamedTuple):
    """What training leaves behind."""

    history: pl.DataFrame
    topk: pl.DataFrame  # user, rank, item, score: by the best epoch
    provenance: dict[str, Any]  # names, settings, code
    outcome: dict[str, Any]  # best epoch, time, memory, versions


def train_cell(
    job: decides.Train,
    at: At,
    *,
    names: Mapping[str, Any],
    code: str,
    keep: Path,
    begin: Path | None = None,
    until: int | None = None,
) -> Trained:
    """Train a cell and rank the items for every user.

    at     where its tables lie
    names  dataset, backbone, arm, seed: with the settings, all that tells it from others
    code   id of the code that trains it
    keep   its checkpoint while it trains; afterwards, if it paused, its state
    begin  the state that an earlier part of its training has left
    until  the epoch after which it pauses; None: it trains to its end

    Raises TrainingError if loss or embeddings are not finite.
    """
    device = choose_device(job.train.device, setting="train.device")
    compute_with(threads=job.train.threads, kernels_are=job.kernels)
    # Below 1e-38 is 0: InfoNCE's probabilities are full of such values, and a CPU takes six times as long over them.
    torch.set_flush_denormal(True)
    interactions, valid = read_interactions(at)
    dropped = items_to_drop(job, at)
    interactions = leave_out(interactions, dropped)
    generators = spawn_generators(names["seed"])
    given = read_given(job, at, interactions, generators.initial)
    model: Backbone = job.backbone.load()(given, job.backbone.settings).to(device)
    provenance = {**names, "config": decides.deciding(job), "code": code}
    checkpoint = Checkpoint(keep, key=run_key(provenance, given.arrays()), begin=begin)
    size = f"{interactions.n_users:,} users, {interactions.n_items:,} items, {len(interactions.users):,} interactions"
    cell = ", ".join(str(name) for name in names.values())
    log.note(f"{cell}: {size}; d {job.d}, learning rate {job.train.learning_rate:g}, on {device}")
    history = fit(model, interactions, valid, job.train, generators, checkpoint, dropped, until)
    log.note(f"ranks the items for {interactions.n_users:,} users with epoch {best_epoch(history).epoch}")
    topk = ranking_to_table(rank(model, interactions, list_length(job, valid), dropped))
    return Trained(history_table(history), topk, provenance, describe(model, history, device))


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
