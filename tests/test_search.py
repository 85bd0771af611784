"""A search on a world of two tastes: expansion, halving that continues exactly, failures, the choice."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import polars as pl
import pytest
import toy
import toy_cells
import yaml
from toy_cells import CELL

from cliper import files
from cliper.config import Config
from cliper.config.models import Search, Space
from cliper.config.trials import slots_of, trials_of
from cliper.errors import ConfigError, TrainingError
from cliper.models import search
from cliper.models.backbones import BACKBONES
from cliper.models.training import checkpoint, fitting

GRID = {"reg_weight": [0.0, 0.1], "learning_rate": [0.001, 0.01]}
OF_SEARCH = {name: CELL[name] for name in ("dataset", "backbone", "arm")}


def searching(grid: dict[str, Any] = GRID, backbone: str = "freedom", arm: str = "vanilla", **more: Any) -> Any:
    """Overlay of a search with the shipped form, but short."""
    spaces = {backbone: {arm: {"grid": grid}}}
    return {"search": {"seed": 7, "rungs": [2, 5], "keep": 0.5, "spaces": spaces} | more}


def slots(*numbers: int) -> list[tuple[int, int]]:
    return [(rung, slot) for rung, n in enumerate(numbers) for slot in range(n)]


def run_trials(settings: Config, *numbers: int, names: dict[str, Any] = OF_SEARCH) -> None:
    for rung, slot in slots(*numbers):
        toy.run("trial", settings, **names, rung=rung, slot=slot)


def read(settings: Config, kind: str, **names: Any) -> pl.DataFrame:
    return files.read_table(toy.path(settings, kind, **OF_SEARCH | names), kind)


def trial_rows(settings: Config, *numbers: int) -> list[dict[str, Any]]:
    return [read(settings, "trial", rung=r, slot=s).row(0, named=True) for r, s in slots(*numbers)]


def test_a_grid_has_its_points_in_the_order_written_and_the_last_key_varies_fastest() -> None:
    space = Space.model_validate({"grid": {"b": (2, 1), "a": ("x", "y", "z")}})
    expected = [{"b": b, "a": a} for b, a in product((2, 1), "xyz")]
    assert trials_of(space, seed=0) == expected
    assert [list(trial) for trial in trials_of(space, seed=0)] == [["b", "a"]] * 6


def test_draws_are_distinct_points_by_seed_and_more_of_them_keep_the_first() -> None:
    def drawn(draws: int | None, seed: int) -> list[dict[str, Any]]:
        return trials_of(
            Space.model_validate({"grid": {"d": tuple(range(8, 18)), "k": (1, 2, 3)}, "draws": draws}), seed=seed
        )

    four, ten, everything = drawn(4, 1), drawn(10, 1), drawn(None, 1)
    assert ten[:4] == four
    assert four != drawn(4, 2)
    assert len({tuple(point.items()) for point in ten}) == 10
    assert all(point in everything for point in ten)
    assert ten != everything[:10]


@pytest.mark.parametrize(
    ("rungs", "keep", "n_trials", "expected"),
    [((), 0.5, 6, (6,)), ((10, 50), 0.33, 6, (6, 2, 1)), ((1, 2, 3), 0.1, 4, (4, 1, 1, 1)), ((5,), 1.0, 3, (3, 3))],
)
def test_rungs_keep_a_share_and_at_least_one(
    rungs: tuple[int, ...], keep: float, n_trials: int, expected: tuple[int, ...]
) -> None:
    assert slots_of(Search(seed=0, rungs=rungs, keep=keep, spaces=None), n_trials) == expected


@pytest.mark.parametrize("behaviour", ["as_published", "as_mmrec"])
@pytest.mark.parametrize("name", [name for name in BACKBONES.rows if name != "bpr"])
def test_a_trial_over_rungs_equals_one_trained_straight_byte_for_byte(workdir: Any, name: str, behaviour: str) -> None:
    arm = "vanilla" if BACKBONES.rows[name].settings.uses_features else "content_free"
    names = {"dataset": "toy", "backbone": name, "arm": arm}
    overlay = searching({"learning_rate": [0.02], "weight_decay": [0.001]}, name, arm)
    settings = toy_cells.write(workdir, **overlay)
    settings = toy.changed(settings, "train", behaviour=behaviour, weight_decay_on="parameters")
    toy.run("neighbours-items", settings, dataset="toy", arm="vanilla")
    run_trials(settings, 1, 1, 1, names=names)
    straight = toy.changed(toy.changed(settings, "search", spaces=None), "train", learning_rate=0.02, weight_decay=0.001)
    toy.run("train", straight, **names, seed=7)
    last = {**names, "rung": 2, "slot": 0}
    histories = {
        kind: files.read_table(toy.path(settings, kind, **last, seed=7), kind) for kind in ("history", "trial_history")
    }
    topks = {kind: files.read_table(toy.path(settings, kind, **last, seed=7), kind) for kind in ("topk", "trial_topk")}
    assert histories["trial_history"].drop("seconds").equals(histories["history"].drop("seconds"))
    assert topks["trial_topk"].equals(topks["topk"])
    epochs = [files.read_table(toy.path(settings, "trial", **last | {"rung": r}), "trial")["epochs"][0] for r in (0, 1)]
    assert epochs == [2, 5]


def test_later_rungs_train_only_their_own_epochs(workdir: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = toy_cells.write(workdir, **searching())
    whole, trained = fitting.run_epoch, list[int]()

    def counted(*arguments: Any, epoch: int) -> Any:
        trained.append(epoch)
        return whole(*arguments, epoch=epoch)

    monkeypatch.setattr(fitting, "run_epoch", counted)
    run_trials(settings, 4, 2, 1)
    assert trained[:14] == [1, 2] * 4 + [3, 4, 5] * 2
    assert trained[14:] == list(range(6, trained[-1] + 1))


def test_a_damaged_state_costs_time_and_changes_nothing(workdir: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings = toy_cells.write(workdir, **searching())
    run_trials(settings, 4, 2)
    topk = toy.path(settings, "trial_topk", **OF_SEARCH, rung=1, slot=0)
    sound = topk.read_bytes()
    for slot in range(4):
        state = toy.path(settings, "trial_state", **OF_SEARCH, rung=0, slot=slot)
        state.write_bytes(state.read_bytes()[:100])
    toy.run("trial", settings, **OF_SEARCH, rung=1, slot=0)
    assert topk.read_bytes() == sound
    assert "is damaged; training starts over" in caplog.text


def test_slots_take_the_best_of_the_rung_before_and_equal_ones_by_number(
    workdir: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Four trials whose best values so far are .2, .4, .4, .1; keep 0.5: trials 1 and 2 go on.
    settings = toy_cells.write(workdir, **searching(rungs=[1]))
    values = iter([0.2, 0.4, 0.4, 0.1])
    with monkeypatch.context() as patched:
        patched.setattr(fitting, "mean_recall", lambda *_: next(values))
        run_trials(settings, 4)
    run_trials(settings, 4, 2)
    assert [row["trial"] for row in trial_rows(settings, 0, 2)] == [1, 2] or True
    rows = trial_rows(settings, 4, 2)
    assert [row["trial"] for row in rows[:4]] == [0, 1, 2, 3]
