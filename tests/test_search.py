"""A search on a world of two tastes: expansion, halving that continues exactly, failures, the choice."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import toy
import toy_cells
import yaml
from line import DEMO, SNAKEMAKE, call, copy_repository
from toy_cells import CELL

from cliper import config, files
from cliper.config import Config, decides
from cliper.config.models import Search, Space
from cliper.config.trials import slots_of, trials_of
from cliper.errors import ConfigError, DataError, TrainingError
from cliper.layout import Layout
from cliper.models import search
from cliper.models.backbones import BACKBONES
from cliper.models.training import checkpoint, fitting
from cliper.report.tables.trials import SearchTables, trials_grid, trials_long
from cliper.schemas import TABLES
from cliper.tools import doctor

GRID = {"reg_weight": [0.0, 0.1], "learning_rate": [0.001, 0.01]}
OF_SEARCH = {name: CELL[name] for name in ("dataset", "backbone", "arm")}


def searching(grid: dict[str, Any] = GRID, backbone: str = "freedom", arm: str = "vanilla", **more: Any) -> Any:
    """Overlay of a search with the shipped form, but short."""
    spaces = {"toy": {backbone: {arm: {"grid": grid}}}}
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
def test_a_trial_over_rungs_equals_one_trained_straight(workdir: Any, name: str, behaviour: str) -> None:
    arm = "vanilla" if BACKBONES.rows[name].settings.uses_features else "content_free"
    names = {"dataset": "toy", "backbone": name, "arm": arm}
    overlay = searching({"learning_rate": [0.02], "weight_decay": [0.001]}, name, arm)
    settings = toy_cells.write(workdir, **overlay)
    settings = toy.changed(settings, "train", behaviour=behaviour, weight_decay_on="parameters")
    toy.run("neighbours-items", settings, dataset="toy", arm="vanilla")
    run_trials(settings, 1, 1, 1, names=names)
    straight = toy.changed(
        toy.changed(settings, "search", spaces=None), "train", learning_rate=0.02, weight_decay=0.001
    )
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


def scripted(monkeypatch: pytest.MonkeyPatch, *recalls: float) -> None:
    """Let validation give these values, one an epoch."""
    values = iter(recalls)
    monkeypatch.setattr(fitting, "mean_recall", lambda *_: next(values))


def test_slots_take_the_best_of_the_rung_before_and_equal_ones_by_number(
    workdir: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rung 0 has four trials of one epoch each; half of them go on, to two epochs: 1 and 2, which are equal.
    settings = toy_cells.write(workdir, **searching(rungs=[1, 2]))
    scripted(monkeypatch, 0.2, 0.4, 0.4, 0.1, 0.3, 0.5)
    run_trials(settings, 4, 2)
    rows = trial_rows(settings, 4, 2)
    assert [row["trial"] for row in rows] == [0, 1, 2, 3, 1, 2]
    assert [row["valid_recall@20"] for row in rows] == [0.2, 0.4, 0.4, 0.1, 0.4, 0.5]
    assert [row["best_epoch"] for row in rows[4:]] == [1, 2]
    assert [row["rung"] for row in rows] == [0] * 4 + [1] * 2


def test_the_best_value_on_validation_is_chosen_and_everything_is_a_row(
    workdir: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = toy_cells.write(workdir, **searching(rungs=[1]))
    with monkeypatch.context() as patched:
        scripted(patched, 0.2, 0.4, 0.9, 0.1)
        run_trials(settings, 4)
    with monkeypatch.context() as patched:
        patched.setattr(fitting, "is_over", lambda history, _: len(history) == 2)
        scripted(patched, 0.5, 0.95)  # slot 0 has trial 2, slot 1 has trial 1
        for slot in (0, 1):
            toy.run("trial", settings, **OF_SEARCH, rung=1, slot=slot)
    toy.path(settings, "test", **OF_SEARCH).write_bytes(b"not to be read")
    toy.run("select", settings, **OF_SEARCH)
    trials = read(settings, "trials")
    assert trials["trial"].to_list() == [0, 1, 2, 3]
    assert trials["rung"].to_list() == [0, 1, 1, 0]
    assert trials["valid_recall@20"].to_list() == [0.2, 0.95, 0.9, 0.1]
    assert trials["is_chosen"].to_list() == [False, True, False, False]
    chosen = {"reg_weight": 0.0, "learning_rate": 0.01}
    selected = files.read_json(toy.path(settings, "selected", **OF_SEARCH), made_by="select")
    assert selected == {
        "settings": chosen,
        "trial": 1,
        "valid_recall@20": 0.95,
        "seed": 7,
        "n_trials": 4,
        "n_failed": 0,
    }
    best = Path("results/toy/best/toy/freedom.vanilla.yaml")
    assert yaml.safe_load(best.read_text()) == {"tuned": {"toy": {"freedom": {"vanilla": chosen}}}}


def rows_of(*given: tuple[int, int, float | None]) -> pl.DataFrame:
    """Rows of the table trial: trial, rung, value; None: failed."""
    rows = [
        {"trial": t, "rung": r, "valid_recall@20": v, "status": "failed" if v is None else "ok"} for t, r, v in given
    ]
    return pl.DataFrame(rows, schema_overrides={"valid_recall@20": pl.Float64})


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        ([(0, 1, 0.3), (1, 1, 0.5), (2, 0, 0.9)], 1),  # went furthest first
        ([(0, 1, 0.5), (1, 1, 0.5)], 0),  # the earlier of equal ones
        ([(0, 1, None), (1, 0, 0.4), (2, 0, 0.6)], 2),  # the last one failed
        ([(0, 1, None), (1, 0, None)], None),
    ],
)
def test_the_choice(rows: list[tuple[int, int, float | None]], chosen: int | None) -> None:
    found = search.choose(rows_of(*rows))
    assert (found and found["trial"]) == chosen


def failing(monkeypatch: pytest.MonkeyPatch, fails: Any) -> None:
    """Let an epoch's loss be infinite where `fails` says so of the settings."""
    whole = fitting.train_epoch

    def epoch(*arguments: Any, settings: Any, **more: Any) -> float:
        return float("inf") if fails(settings) else whole(*arguments, settings=settings, **more)

    monkeypatch.setattr(fitting, "train_epoch", epoch)


def test_a_trial_that_fails_is_a_row_and_the_search_goes_on(workdir: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Learning rate .01 fails: trials 1 and 3. Three of four go on, so that one slot of rung 1 has none to continue.
    settings = toy_cells.write(workdir, **searching(keep=0.75))
    failing(monkeypatch, lambda train: train.learning_rate == 0.01)
    run_trials(settings, 4, 3, 2)
    toy.run("select", settings, **OF_SEARCH)
    trials = read(settings, "trials")
    assert trials["status"].to_list() == ["ok", "failed", "ok", "failed"]
    assert trials["rung"].to_list() == [2, 0, 2, 0]
    assert trials["detail"][1].startswith("the loss of epoch 1 is inf")
    assert trials["valid_recall@20"].is_null().to_list() == [False, True, False, True]
    assert files.read_json(toy.path(settings, "selected", **OF_SEARCH), made_by="select")["n_failed"] == 2
    toy.run("hindsight", settings, **OF_SEARCH)
    assert read(settings, "hindsight")["trial"].to_list() == [0, 2]


def test_a_trial_that_fails_in_a_later_rung_is_not_chosen(workdir: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = toy_cells.write(workdir, **searching(rungs=[2]))
    run_trials(settings, 4)
    failing(monkeypatch, lambda _: True)
    for slot in (0, 1):
        toy.run("trial", settings, **OF_SEARCH, rung=1, slot=slot)
    toy.run("select", settings, **OF_SEARCH)
    trials = read(settings, "trials")
    assert trials.filter(status="failed")["rung"].to_list() == [1, 1]
    assert trials.filter("is_chosen").select("status", "rung").row(0) == ("ok", 0)
    assert trials.filter(status="failed")["detail"][0].startswith("the loss of epoch 3 is inf")


def test_where_all_trials_fail_a_sentence_says_so_and_nothing_is_chosen(
    workdir: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = toy_cells.write(workdir, **searching())
    failing(monkeypatch, lambda _: True)
    run_trials(settings, 4, 2, 1)
    with pytest.raises(
        TrainingError, match=r"all 4 trials of freedom with vanilla on toy failed \(the first: the loss"
    ):
        toy.run("select", settings, **OF_SEARCH)
    assert not list(Path("results/toy").glob("best/**/*.*"))


def test_a_killed_trial_continues_and_ends_in_the_same_bytes(workdir: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = toy_cells.write(workdir, **searching())
    run_trials(settings, 4, 2)
    names = {"rung": 1, "slot": 1}
    paths = [toy.path(settings, kind, **OF_SEARCH, **names) for kind in ("trial", "trial_topk")]
    sound = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
    whole, trained = fitting.run_epoch, list[int]()

    def dies_once(*arguments: Any, epoch: int) -> Any:
        trained.append(epoch)
        if trained == [3, 4]:
            raise KeyboardInterrupt
        return whole(*arguments, epoch=epoch)

    monkeypatch.setattr(checkpoint, "EVERY_S", 0)
    monkeypatch.setattr(fitting, "run_epoch", dies_once)
    with pytest.raises(KeyboardInterrupt):
        toy.run("trial", settings, **OF_SEARCH, **names)
    toy.run("trial", settings, **OF_SEARCH, **names)
    assert trained == [3, 4, 4, 5]
    assert [path.read_bytes() for path in paths] == sound
    assert not list(Path("results/toy/trial").rglob("checkpoint.pt"))


def test_no_trial_and_no_choice_reads_the_test_split(workdir: Any) -> None:
    settings = toy_cells.write(workdir, **searching())
    toy.path(settings, "test", **OF_SEARCH).write_bytes(b"not to be read")
    run_trials(settings, 4, 2, 1)
    toy.run("select", settings, **OF_SEARCH)
    assert len(read(settings, "trials")) == 4


def test_hindsight_measures_each_trial_as_far_as_it_was_trained(workdir: Any) -> None:
    settings = toy_cells.write(workdir, **searching({"learning_rate": [0.02]}))
    run_trials(settings, 1, 1, 1)
    toy.run("hindsight", settings, **OF_SEARCH)
    straight = toy.changed(toy.changed(settings, "search", spaces=None), "train", learning_rate=0.02)
    cell = OF_SEARCH | {"seed": 7}
    toy.run("train", straight, **cell)
    toy.run("evaluate", straight, **cell)
    expected = files.read_table(toy.path(settings, "metrics", **cell), "metrics").filter(
        split="test", metric="recall", k=20
    )
    assert read(settings, "hindsight").rows() == [(0, expected["value"].item())]


def test_a_cell_takes_the_selected_settings_and_says_where_they_come_from(workdir: Any) -> None:
    settings = toy_cells.write(workdir, **searching({"d": [4, 8], "reg_weight": [0.25]}), run={"arms": ["vanilla"]})
    with pytest.raises(DataError, match="Run: python -m cliper select"):
        toy.run("train", settings, **CELL)
    run_trials(settings, 2, 1, 1)
    toy.run("select", settings, **OF_SEARCH)
    toy.run("train", settings, **CELL)
    account = files.read_json(toy.path(settings, "run", **CELL), made_by="train")
    selected = files.read_json(toy.path(settings, "selected", **OF_SEARCH), made_by="select")
    assert account["search"] == selected
    assert account["config"]["d"] == selected["settings"]["d"]
    assert account["config"]["backbone"]["reg_weight"] == 0.25


def test_the_settings_of_a_config_reach_a_cell_only_through_the_choice(workdir: Any) -> None:
    """So that a trial more plans no cell again before the choice has changed."""
    few = toy_cells.write(workdir, **searching())
    many = toy.settings(
        **config.lay_over(searching({"reg_weight": [0.0, 0.1, 0.2], "learning_rate": [0.001]}), toy.dataset(workdir)),
        arms={"vanilla": {"d": 8}},
        train=toy_cells.QUICK,
    )
    cell: dict[str, Any] = CELL
    assert decides.of_train(few, **cell) == decides.of_train(many, **cell)


@pytest.mark.parametrize(
    ("overlay", "said"),
    [
        (searching(seed=1), "search.seed: 1 is a seed of cells too"),
        (searching(rungs=[5, 5]), r"search.rungs: [5, 5] does not rise"),
        (searching(keep=1.5), "search.keep: 1.5 must be at most 1"),
        (searching(backbone="fredom"), "search.spaces.toy: unknown backbone 'fredom'"),
        (searching(arm="clipper"), "search.spaces.toy.freedom: unknown arm 'clipper'; known: "),
        (searching(arm="content_free"), "search.spaces.toy.freedom: unknown arm 'content_free'"),
        (searching({}), "search.spaces.toy.freedom.vanilla.grid: "),
        (searching({"reg_wait": [1]}), "search.spaces.toy.freedom.vanilla.grid.reg_wait: unknown setting of a cell"),
        (searching({"n_ui_layers": [0]}), "search.spaces.toy.freedom.vanilla.grid.n_ui_layers: 0 must be at least 1"),
        (searching({"learning_rate": ["fast"]}), "grid.learning_rate: 'fast' is a string; write a number without"),
        (searching({"edge_dropout": [0.5, 1.0]}), "grid.edge_dropout: 1.0 must be less than 1"),
        (searching({"k": [5, 21]}), "search.spaces.toy.freedom.vanilla.grid.k: 21 is more than neighbours.items"),
        (searching({"d": [8, 16]}), "vanilla.grid.d: table2_fair compares the run's arms at one d; leave d out"),
        (searching({"d": [8, 8]}), "names one twice"),
        (
            searching({key: [*range(1, 999)] for key in ("d", "k", "batch_size", "n_ui_layers")}),
            "spaces.toy.freedom.vanilla: the grid has 992,023,968,016 points, more than 10,000; leave values out",
        ),
        (searching({"behaviour": ["as_mmrec"]}), "grid.behaviour: it is one for all cells; set it in train"),
        (
            searching({"weight_decay": [0.0, 0.1]}) | {"train": {"behaviour": "as_mmrec", "weight_decay": 0}},
            "train.weight_decay_on: batch, but as_mmrec Adam decays the weights of freedom",
        ),
        (
            {"search": {"spaces": {"toy": {"freedom": {"vanilla": {"grid": {"d": [1, 2]}, "draws": 2}}}}}},
            "search.spaces.toy.freedom.vanilla: the grid has 2 points; draw fewer",
        ),
    ],
)
def test_a_search_that_cannot_be_is_a_sentence_with_its_place(workdir: Any, overlay: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        toy.settings(**config.lay_over(toy.dataset(workdir), overlay))
    assert said in str(raised.value)


def test_a_slot_that_is_not_there_is_a_sentence(workdir: Any) -> None:
    settings = toy.settings(**config.lay_over(toy.dataset(workdir), searching()))
    with pytest.raises(ConfigError, match="the search of freedom with vanilla has no slot 4 in a rung 0"):
        toy.run("trial", settings, **OF_SEARCH, rung=0, slot=4)
    with pytest.raises(ConfigError, match="search.spaces has nothing for toy, freedom with cliper"):
        toy.run("select", settings, **OF_SEARCH | {"arm": "cliper"})


def test_the_table_shows_every_trial_and_what_choosing_on_test_would_have_claimed() -> None:
    # Chosen by validation: trial 1, 30 % on test. Trial 0 has 36 % there; trial 2 failed.
    trials = rows_of((0, 1, 0.5), (1, 1, 0.6), (2, 0, None)).with_columns(
        settings=pl.Series(['{"d": 4}', '{"d": 8}', '{"d": 16}']),
        epochs=pl.Series([9, 8, None]),
        best_epoch=pl.Series([7, 6, None]),
        detail=pl.Series([None, None, "the loss is nan"]),
        is_chosen=pl.Series([False, True, False]),
    )
    hindsight = pl.DataFrame({"trial": [0, 1], "test_recall@20": [0.36, 0.30]})
    long = trials_long([SearchTables("toy", "freedom", "vanilla", trials, hindsight)])
    assert long["valid"].to_list() == pytest.approx([50, 60, None])
    assert long["test"].to_list() == pytest.approx([36, 30, None])
    assert long["optimism"].to_list() == pytest.approx([None, 6, None])
    grid = trials_grid(long, titles={"toy": "Toy"}, backbones={"freedom": "FREEDOM"}, seed=7)
    assert grid.rows[1] == ["Toy", "FREEDOM", "vanilla", "1", "d 8", "1", "8", "60.00", "30.00", "chosen"]
    assert grid.rows[2][6:] == ["–", "–", "–", "failed"]
    assert grid.notes[1] == (
        "FREEDOM with vanilla on Toy: 3 trials, 1 failed. Choosing on test would have claimed 36.00, 6.00 more."
    )


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, list[str], list[str]]]:
    """Rule, inputs and outputs of every job of the demo with two searches, whose arms are varied by a study."""
    folder = copy_repository(tmp_path_factory.mktemp("dag") / "cliper")
    searched = {"freedom": {"cliper": {"grid": GRID}}, "lightgcn": {"content_free": {"grid": {"n_layers": [1, 2]}}}}
    (folder / "more.yaml").write_text(
        yaml.safe_dump({"search": {"rungs": [2, 5], "keep": 0.5, "spaces": {"shop": searched}}})
    )
    shown = call(folder, *SNAKEMAKE, "-n", "--forceall", *DEMO, "more.yaml").stdout
    jobs = re.findall(r"^rule (\w+):\n(?:    input: (.*)\n)?(?:    output: (.*)\n)?", shown, re.MULTILINE)
    assert jobs, shown
    return [(rule, read.split(", ") if read else [], made.split(", ")) for rule, read, made in jobs]


def test_on_the_dag_neither_trial_nor_choice_nor_training_comes_after_a_test_file(planned: Any) -> None:
    made_from = {file: read for _, read, made in planned for file in made}

    def before(files: list[str]) -> set[str]:
        return set(files).union(*(before(made_from.get(file, [])) for file in files))

    by_rule = {rule: [read for each, read, _ in planned if each == rule] for rule, _, _ in planned}
    assert [len(by_rule[rule]) for rule in ("trial", "select", "hindsight")] == [7 + 2 + 1 + 1, 2, 2]
    for rule in ("trial", "select", "train"):
        for read in by_rule[rule]:
            assert not [file for file in before(read) if "/test.parquet" in file or "metrics" in file], rule
    readers = {rule for rule, read, _ in planned if any("/test.parquet" in file for file in read)}
    assert {"evaluate", "hindsight"} <= readers <= {"evaluate", "hindsight", "tabulate", "plot"}


def test_on_the_dag_a_cell_waits_for_the_choice_and_later_rungs_for_all_of_the_one_before(planned: Any) -> None:
    of_train = [read for rule, read, _ in planned if rule == "train"]
    choices = [[file for file in read if file.endswith("selected.json")] for read in of_train]
    assert sorted({file for read in choices for file in read}) == [
        "results/demo/best/shop/freedom.cliper/selected.json",
        "results/demo/best/shop/lightgcn.content_free/selected.json",
    ]
    assert [] in choices  # of arms that are not searched
    (second,) = (
        read for _, read, made in planned if "results/demo/trial/shop/freedom/cliper/1/1/trial.parquet" in made
    )
    assert [file for file in second if "/trial/" in file] == [
        f"results/demo/trial/shop/freedom/cliper/0/{slot}/{file}"
        for slot in range(4)
        for file in ("trial.parquet", "state.pt")
    ]


def test_doctor_counts_trials_and_their_hours_by_rung(workdir: Any) -> None:
    # On 118,551 train rows an epoch of FREEDOM costs 14.9 s at d 64. Rungs of 10 and 90 epochs,
    # the second for half of the trials: 2 x 10 + 90 epochs.
    overlay = config.lay_over(toy.dataset(workdir), searching({"reg_weight": [0.0, 0.1]}, rungs=[10]))
    settings = toy.settings(**overlay, arms={"vanilla": {"d": 64}})
    counts = dict.fromkeys(TABLES["counts"].columns, 1) | {"step": "raw", "interactions": 118_551}
    files.write_table(toy.path(settings, "counts", dataset="toy"), "counts", pl.DataFrame([counts]))
    plain = toy.changed(settings, "search", spaces=None)
    with_trials, without = (sum(doctor.estimate_hours(Layout(each))["train"].values()) for each in (settings, plain))
    assert with_trials - without == pytest.approx(110 * 14.9 / 3600)
    assert " and 2 trials of 1 searches of toy" in next(iter(doctor.describe(Layout(settings), [])))


def test_an_arm_takes_what_is_selected_for_the_one_it_comes_from_but_for_its_own_width(workdir: Any) -> None:
    overlay = config.lay_over(toy.dataset(workdir), searching({"reg_weight": [0.25]}))
    overlay["run"] |= {"arms": ["vanilla", "vanilla.d-16", "vanilla.missing_image-zero", "wide"]}
    settings = toy.settings(**overlay, arms={"wide": {"extends": "vanilla", "d": 32}})
    flat = {"d": 4, "reg_weight": 0.25}
    for arm, d in {"vanilla": 4, "vanilla.d-16": 16, "vanilla.missing_image-zero": 4, "wide": 32}.items():
        job = decides.of_train(settings, dataset="toy", backbone="freedom", arm=arm, seed=1)
        assert job.searched and (job.searched.dataset, job.searched.arm) == ("toy", "vanilla")
        taken = decides.with_settings(job, flat)
        assert (taken.d, dict(taken.backbone.settings)["reg_weight"]) == (d, 0.25)
    assert settings.searches == [("toy", "freedom", "vanilla")]
