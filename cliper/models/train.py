"""Train one backbone and rank the items for every user.

In:   the users, items, train and valid tables; the features of the arm and the neighbours for backbones that use them;
      the settings that select chose, where the config searches for them
Out:  history.parquet (loss and validation Recall@20 of each epoch), topk.parquet (the best items of every user at
      the best epoch, without train items; under evaluate.mask_valid lists are longer, so that evaluate can drop
      validation items), run.json (settings and where they come from, versions, device, time, memory)

The best epoch is the first with the highest validation Recall@20, not rounded (as_mmrec: rounded to four decimals);
training stops `patience` epochs after it. The test split is not read. On a CPU the same seed, settings and versions
give the same bytes. Paper: section 4, "Implementation Details", and appendix A (Adam, learning rate, weight decay,
patience).
"""

from __future__ import annotations

from cliper import files, log
from cliper.codeid import code_id
from cliper.config import decides
from cliper.layout import At
from cliper.models.training.cell import train_cell


def run(job: decides.Train, at: At) -> None:
    """Train, write history, ranking and run.json."""
    code, keep = code_id("train", job.backbone.place), at("run").with_name("checkpoint.pt")
    selected = None
    if job.searched:
        path = at("selected", dataset=job.searched.dataset, arm=job.searched.arm)
        selected = files.read_json(path, made_by="select")
        job = decides.with_settings(job, selected["settings"])
    trained = train_cell(job, at, names=at.names, code=code, keep=keep)
    files.write_table(at("history"), "history", trained.history)
    note = {"mask_valid": True} if job.mask_valid else {}
    files.write_table(at("topk"), "topk", trained.topk, metadata=note)
    files.write_json(at("run"), trained.provenance | {"search": selected} | trained.outcome)
    keep.unlink(missing_ok=True)
    outcome = trained.outcome
    log.account(
        f"{len(trained.history)} epochs on {outcome['device']}, best {outcome['best_epoch']} with validation Recall@20 "
        f"{outcome['valid_recall@20']:.4f}; {trained.topk['user'].n_unique()} users ranked"
    )
