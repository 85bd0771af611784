"""Search the settings of a backbone with an arm, by validation.

trial    In:   what train reads; from the second rung on, the results and states of all slots of the rung before
         Out:  trial.parquet (one row: settings, epochs, best validation Recall@20, whether it failed), history.parquet,
               topk.parquet (as train's), state.pt (to continue from; deleted once the next rung is done)
select   In:   trial.parquet of all slots of all rungs
         Out:  selected.json (the settings that train takes), trials.parquet (one row a trial), and the settings as a
               YAML file that may be laid over a config

Successive halving: slot i of rung 0 trains trial i up to the rung's epoch. Slot j of a later rung continues the trial
that is the j-th best so far by validation Recall@20, as if it had not paused. The last rung trains to the normal end.
Of equal trials the earlier is better. A trial whose loss or embeddings are not finite has failed; the search goes on
without it. The test split is not read. Paper: appendix A names the values that it searched, not how it chose.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import yaml

from cliper import files, log
from cliper.codeid import code_id
from cliper.config import decides
from cliper.errors import TrainingError
from cliper.layout import At
from cliper.models.training.cell import Trained, train_cell
from cliper.schemas import TABLES

SCORE = "valid_recall@20"


def by_merit(rows: pl.DataFrame) -> pl.DataFrame:
    """Sort rows of the table trial: the best first, those that failed last, equal ones by number."""
    return rows.sort(pl.col("status") != "ok", -pl.col(SCORE), "trial", nulls_last=True)


def furthest(rows: pl.DataFrame) -> pl.DataFrame:
    """One row for each trial: its last rung's. Later rungs repeat the row of one that failed."""
    return rows.sort("trial", "rung").unique("trial", keep="last", maintain_order=True)


def choose(rows: pl.DataFrame) -> dict[str, Any] | None:
    """The best of the trials that did not fail and went furthest; None if all failed.

    rows  of the table trial, one a trial
    """
    sound = rows.filter(status="ok")
    finalists = by_merit(sound.filter(pl.col("rung") == pl.col("rung").max()))
    return finalists.row(0, named=True) if len(finalists) else None


def find_trial(job: decides.Trial, at: At) -> tuple[dict[str, Any], Path | None]:
    """The row of the trial to train, as far as it is known, and the state to continue it from."""
    rung, slot = at.names["rung"], at.names["slot"]
    if job.settings is not None:
        row = dict.fromkeys(TABLES["trial"].columns) | {"trial": slot, "settings": json.dumps(job.settings)}
        return row | {"status": "ok"}, None
    slots = range(job.n_before)
    before = pl.concat(files.read_table(at("trial", rung=rung - 1, slot=each), "trial") for each in slots)
    row = by_merit(before.with_columns(slot=pl.Series(slots))).row(slot, named=True)
    return row, at("trial_state", rung=rung - 1, slot=row.pop("slot"))


def train_trial(
    job: decides.Trial, at: At, row: dict[str, Any], begin: Path | None, keep: Path
) -> tuple[dict[str, Any], Trained | None]:
    """Train a trial up to the rung's last epoch. Returns its row, and None if it failed, now or in an earlier rung."""
    if row["status"] != "ok":
        return row, None
    cell = decides.with_settings(job.cell, json.loads(row["settings"]))
    names = {name: at.names[name] for name in ("dataset", "backbone", "arm")} | {"seed": job.seed}
    row = row | {"rung": at.names["rung"]}
    try:
        code = code_id("trial", cell.backbone.place)
        trained = train_cell(cell, at, names=names, code=code, keep=keep, begin=begin, until=job.until)
    except TrainingError as error:
        nothing = dict.fromkeys(("epochs", "best_epoch", SCORE))
        return row | nothing | {"status": "failed", "detail": str(error)}, None
    return row | {name: trained.outcome[name] for name in ("epochs", "best_epoch", SCORE)}, trained


def run_trial(job: decides.Trial, at: At) -> None:
    """Train the trial of one slot and write its row, history, ranking and state."""
    row, begin = find_trial(job, at)
    keep, state = at("trial").with_name("checkpoint.pt"), at("trial_state")
    log.note(f"trial {row['trial']} of {row['settings']}")
    row, trained = train_trial(job, at, row, begin, keep)
    history, topk = (trained.history, trained.topk) if trained else (empty("trial_history"), empty("trial_topk"))
    files.write_table(at("trial_history"), "trial_history", history)
    files.write_table(
        at("trial_topk"), "trial_topk", topk, metadata={"mask_valid": True} if job.cell.mask_valid else {}
    )
    files.write_table(at("trial"), "trial", pl.DataFrame([row]))
    if trained and job.until is not None:
        keep.replace(state)
    else:
        files.write_text(state, "")  # nothing continues from it
        keep.unlink(missing_ok=True)
    log.account(f"trial {row['trial']} {said(row)}")


def empty(kind: str) -> pl.DataFrame:
    """A table without rows."""
    schema = pa.schema([(name, files.arrow_type(each)) for name, each in TABLES[kind].columns.items()])
    return pl.DataFrame(schema.empty_table())


def said(row: dict[str, Any]) -> str:
    """How a trial did, in words."""
    if row["status"] != "ok":
        return f"failed: {row['detail']}"
    return f"has validation Recall@20 {row[SCORE]:.4f} at epoch {row['best_epoch']} of {row['epochs']}"


def run_select(job: decides.Select, at: At) -> None:
    """Choose by validation and write the choice, all trials, and the settings for a config.

    Raises TrainingError if all trials failed.
    """
    log.note(f"reads what {len(job.slots)} slots trained")
    trials = furthest(pl.concat(files.read_table(at("trial", rung=r, slot=s), "trial") for r, s in job.slots))
    n_failed = len(trials.filter(pl.col("status") != "ok"))
    dataset, backbone, arm = at.names.values()
    best = choose(trials)
    if best is None:
        first = trials.row(0, named=True)
        raise TrainingError(
            f"all {len(trials)} trials of {backbone} with {arm} on {dataset} failed (the first: {first['detail']}); "
            f"change search.spaces.{dataset}.{backbone}.{arm}"
        )
    settings = json.loads(best["settings"])
    files.write_table(at("trials"), "trials", trials.with_columns(is_chosen=pl.col("trial") == best["trial"]))
    said_of = {"trial": best["trial"], SCORE: best[SCORE], "seed": job.seed, "n_trials": len(trials)}
    files.write_json(at("selected"), {"settings": settings, **said_of, "n_failed": n_failed})
    tuned = {"tuned": {dataset: {backbone: {arm: settings}}}}
    files.write_text(Path(f"{at('selected').parent}.yaml"), yaml.safe_dump(tuned, sort_keys=False))
    log.account(f"{len(trials)} trials, {n_failed} failed; trial {best['trial']} {said(best)}: {best['settings']}")
