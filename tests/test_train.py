import copy
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
import toy
import toy_cells
from toy_backbones import build, toy_features
from toy_cells import CELL, N_ITEMS, N_USERS, features, two_tastes

from cliper import files, log
from cliper.config import Config, decides
from cliper.config.models import Evaluate
from cliper.device import choose_device
from cliper.errors import ConfigError, DataError, FeatureError, TrainingError
from cliper.layout import At, Layout
from cliper.models.backbones import BACKBONES
from cliper.models.backbones.base import Interactions
from cliper.models.backbones.lightgcn import Lightgcn
from cliper.models.training import checkpoint, fitting, inputs


def changed(section, **values):
    """Settings with other values, unchecked."""
    return section.model_copy(update=values)


CONTENT_FREE = CELL | {"backbone": "lightgcn", "arm": "content_free"}


def cell_of(name: str) -> dict[str, str | int]:
    arm = "vanilla" if BACKBONES.rows[name].settings.uses_features else "content_free"
    return CELL | {"backbone": name, "arm": arm}


def reads(name: str) -> tuple[bool, bool, bool]:
    uses = BACKBONES.rows[name].settings
    return uses.uses_features, uses.uses_item_graph, uses.uses_user_graph


KINDS = [cell_of(name) for name in {reads(name): name for name in reversed(BACKBONES.rows)}.values()]  # first of each
of_each_kind = pytest.mark.parametrize("cell", KINDS, ids=lambda cell: cell["backbone"])


@pytest.fixture
def settings(workdir) -> Config:
    return toy_cells.write(workdir)


def read(settings: Config, kind: str, cell=CELL) -> pl.DataFrame:
    return files.read_table(toy.path(settings, kind, **cell), kind)


@pytest.mark.parametrize("name", [name for name in BACKBONES.rows if name not in ("mmgcn", "bpr")])  # learn slower
def test_training_learns_the_tastes_and_leaves_an_account_of_itself(settings, name):
    cell = cell_of(name)
    toy.run("train", settings, **cell)
    history = read(settings, "history", cell)
    account = files.read_json(toy.path(settings, "run", **cell), made_by="train")
    assert history["epoch"].to_list() == list(range(1, len(history) + 1))
    assert history["loss"][-1] < history["loss"][0]
    best = history.filter(pl.col("valid_recall@20") == pl.col("valid_recall@20").max())["epoch"][0]
    assert (account["best_epoch"], account["valid_recall@20"]) == (best, history["valid_recall@20"].max())
    assert account["valid_recall@20"] > 0.9  # chance is 20 / 34
    assert account["config"]["train"]["learning_rate"] == 0.01
    assert (account["seed"], account["device"].split()[0]) == (1, "cpu")


def test_a_line_of_progress_says_epoch_best_and_when_training_ends(settings, monkeypatch, caplog):
    monkeypatch.setattr(log, "FIRST_S", 0)
    monkeypatch.setattr(log, "SHARE", 0)
    caplog.set_level("INFO")
    toy.run("train", toy.changed(settings, "train", patience=2), **CELL)
    shown = [line for line in caplog.messages if line.startswith("epochs: ")]
    for line, epoch in zip(shown, read(settings, "history").iter_rows(named=True), strict=True):
        assert line.startswith(f"epochs: {epoch['epoch']} of 12, ")
        assert f"loss {epoch['loss']:.4f}; best validation Recall@20 " in line
    best = read(settings, "history").filter(pl.col("valid_recall@20") == pl.col("valid_recall@20").max())["epoch"][0]
    assert shown[-1].endswith(f" at epoch {best}, so it ends at {min(best + 2, 12)}")


@of_each_kind
def test_train_items_are_never_recommended_and_lists_end_where_items_end(settings, cell):
    toy.run("train", settings, **cell)
    topk = read(settings, "topk", cell)
    assert topk.join(read(settings, "train"), on=["user", "item"], how="inner").is_empty()
    assert topk.group_by("user").len()["len"].to_list() == [N_ITEMS - 6] * N_USERS  # 34 is less than K = 50
    assert topk.sort("user", "score", descending=[False, True], maintain_order=True).equals(topk)


@of_each_kind
def test_with_validation_items_masked_lists_stay_full_without_them(settings, cell):
    # Every user has 2 validation items, so the lists of 20 are made 2 longer and begin as they did.
    toy.run("train", with_cutoffs(settings, mask_valid=False), **cell)
    short = read(settings, "topk", cell)
    toy.run("train", with_cutoffs(settings, mask_valid=True), **cell)
    long = read(settings, "topk", cell)
    assert long.group_by("user").len()["len"].to_list() == [22] * N_USERS
    assert long.filter(pl.col("rank") <= 20).equals(short)
    left = long.join(read(settings, "valid", cell), on=["user", "item"], how="anti").group_by("user").len()
    assert left["len"].min() == 20


def with_cutoffs(settings: Config, *, mask_valid: bool) -> Config:
    return changed(settings, evaluate=Evaluate(cutoffs=(5, 20), mask_valid=mask_valid))


@of_each_kind
def test_a_run_repeats_byte_by_byte_and_another_seed_does_not(settings, cell):
    path = toy.path(settings, "topk", **cell)
    toy.run("train", settings, **cell)
    first = path.read_bytes()
    path.unlink()
    toy.run("train", settings, **cell)
    assert path.read_bytes() == first
    toy.run("train", settings, **cell | {"seed": 2})
    assert toy.path(settings, "topk", **cell | {"seed": 2}).read_bytes() != first


@of_each_kind
def test_training_never_reads_the_test_split(settings, cell):
    toy.path(settings, "test", **cell).write_bytes(b"not to be read")
    toy.run("train", settings, **cell)
    assert toy.path(settings, "topk", **cell).is_file()


READ_IF = {
    "uses_features": [("features", {})],
    "uses_item_graph": [("item_neighbours", {"modality": "image"}), ("item_neighbours", {"modality": "text"})],
    "uses_user_graph": [("user_neighbours", {})],
}


@of_each_kind
def test_a_run_reads_the_tables_that_its_settings_class_declares_and_no_other(settings, cell):
    for use, tables in READ_IF.items():
        is_read = getattr(BACKBONES.rows[cell["backbone"]].settings, use)
        for kind, more in tables:
            path = toy.path(settings, kind, **CELL, **more)
            whole = path.read_bytes()
            path.write_bytes(b"not to be read")
            with pytest.raises(DataError, match=path.name) if is_read else nullcontext():
                toy.run("train", settings, **cell)
            path.write_bytes(whole)


@of_each_kind
def test_training_stops_patience_epochs_after_the_best_and_goes_back_to_it(settings, monkeypatch, cell):
    interactions, valid = inputs.read_interactions(At(Layout(settings), cell))
    generators = fitting.spawn_generators(0)
    model = build(cell["backbone"], interactions, toy_features(N_ITEMS))
    recalls, states = iter([0.1, 0.3, 0.3, 0.29999, 0.2]), []

    def scripted(ranking, valid):
        states.append(copy.deepcopy(model.state_dict()))
        return next(recalls)

    monkeypatch.setattr(fitting, "mean_recall", scripted)
    keep = checkpoint.Checkpoint(toy.path(settings, "topk", **cell), key="")
    patient = changed(settings.train, patience=3)
    history = fitting.fit(model, interactions, valid, patient, generators, keep)
    assert [epoch.epoch for epoch in history] == [1, 2, 3, 4, 5]
    assert all(torch.equal(value, states[1][name]) for name, value in model.state_dict().items())
    assert not any(torch.equal(value, states[2][name]) for name, value in model.named_parameters())


def decay_once(settings, where, **change):
    """One epoch of one batch of LightGCN, no gradient but the decay's: embeddings before and after.

    Negatives come from the two items in train.
    """
    interactions = Interactions(np.array([0, 1]), np.array([0, 1]), n_users=3, n_items=3)
    generators = fitting.spawn_generators(0)
    model = build("lightgcn", interactions)
    model.loss = lambda triples: 0 * sum(p.sum() for p in model.parameters())
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    chosen = changed(settings.train, weight_decay=0.5, weight_decay_on=where, **change)
    decay = {"batch": 0.0, "parameters": 0.5}[where]
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=decay)
    fitting.train_epoch(model, optimiser, interactions, np.arange(2), settings=chosen, generators=generators)
    return before, {name: value.detach() for name, value in model.named_parameters()}


@pytest.mark.parametrize("where", ["batch", "parameters"])
def test_weight_decay_pulls_the_batch_or_every_parameter_towards_zero(settings, where):
    # The L2 term of LightGCN, equation 15, or Adam's own.
    before, after = decay_once(settings, where)
    # Each of the two triples has one positive and, as negative, the other's positive: item rows count twice.
    shrink = {"batch": ([0.75, 0.75, 1], [0.5, 0.5, 1]), "parameters": ([0.5] * 3, [0.5] * 3)}[where]
    for name, factors in zip(("users", "items"), shrink, strict=True):
        torch.testing.assert_close(after[name], before[name] * torch.tensor(factors)[:, None])


def test_as_mmrec_weight_decay_on_the_batch_pulls_at_lengths_that_are_not_squared(settings):
    # The gradient of ½ ‖M‖ / B is M / (2 B ‖M‖), with B = 2; items are in two matrices, as above.
    before, after = decay_once(settings, "batch", behaviour="as_mmrec")
    for name, n_matrices in (("users", 1), ("items", 2)):
        pulled = n_matrices * before[name][:2] / (4 * before[name][:2].norm())
        torch.testing.assert_close(after[name][:2], before[name][:2] - pulled)
        assert torch.equal(after[name][2], before[name][2])


@pytest.mark.parametrize(
    ("name", "behaviour", "expected"),
    [
        *[(name, "as_published", [0, 1, 2, 4]) for name in ("mmgcn", "dualgnn", "lattice", "lightgcn", "bpr", "vbpr")],
        ("freedom", "as_published", [0, 1]),
        *[(name, "as_mmrec", [0, 1]) for name in BACKBONES.rows],
    ],
)
def test_negatives_come_from_all_items_or_from_those_in_train_as_the_authors_do(settings, name, behaviour, expected):
    interactions = Interactions(np.array([0, 1]), np.array([1, 0]), n_users=3, n_items=5)  # the arm drops item 3
    chosen, model = changed(settings.train, behaviour=behaviour), build(name)
    found = fitting.negative_candidates(model, interactions, chosen, np.array([3]))
    assert found.tolist() == expected


def test_a_fit_draws_its_negatives_from_the_candidates(settings, monkeypatch):
    interactions = Interactions(np.array([0, 1, 1]), np.array([0, 1, 2]), n_users=2, n_items=9)
    model, drawn, generators = build("lightgcn", interactions), set(), fitting.spawn_generators(0)
    loss = model.loss
    model.loss = lambda triples: drawn.update(triples.negatives.tolist()) or loss(triples)
    valid = pl.DataFrame({"user": [0], "item": [1]})
    keep = checkpoint.Checkpoint(Path("none.pt"), key="")
    for_many = changed(settings.train, max_epochs=60, patience=60)
    fitting.fit(model, interactions, valid, for_many, generators, keep, np.array([5]))
    assert drawn == {0, 1, 2, 3, 4, 6, 7, 8}


def test_a_backbone_that_names_no_rows_is_trained_without_an_l2_term(settings, monkeypatch):
    monkeypatch.setattr(Lightgcn, "decayed", lambda *_: ())
    before, after = decay_once(settings, "batch")
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize(("behaviour", "best"), [("as_published", 2), ("as_mmrec", 1)])
def test_the_best_epoch_is_chosen_by_rounded_recall_as_mmrec_only(settings, monkeypatch, behaviour, best):
    interactions = Interactions(np.array([0, 1, 1]), np.array([0, 1, 2]), n_users=2, n_items=9)
    recalls = iter([0.12341, 0.12344, 0.1])
    monkeypatch.setattr(fitting, "mean_recall", lambda *_: next(recalls))
    short = changed(settings.train, max_epochs=3, behaviour=behaviour)
    keep = checkpoint.Checkpoint(Path("none.pt"), key="")
    model, generators = build("lightgcn", interactions), fitting.spawn_generators(0)
    history = fitting.fit(model, interactions, pl.DataFrame({"user": [0], "item": [1]}), short, generators, keep)
    assert fitting.best_epoch(history).epoch == best


@of_each_kind
def test_adam_gets_the_decay_only_where_the_config_says_so(settings, monkeypatch, cell):
    decays = []
    adam = fitting.Adam
    monkeypatch.setattr(fitting, "Adam", lambda *a, **k: decays.append(k["weight_decay"]) or adam(*a, **k))
    for where in ("batch", "parameters"):
        quick = changed(settings.train, weight_decay=0.5, weight_decay_on=where, max_epochs=1)
        toy.run("train", changed(settings, train=quick), **cell)
    assert decays == [0.0, 0.5]


def killed_after(epochs: int, monkeypatch):
    """Kill training in the epoch after these, with a checkpoint after each."""
    monkeypatch.setattr(checkpoint, "EVERY_S", 0)
    whole, done = fitting.train_epoch, []

    def dies(*arguments, **options):
        if len(done) == epochs:
            raise KeyboardInterrupt
        done.append(1)
        return whole(*arguments, **options)

    monkeypatch.setattr(fitting, "train_epoch", dies)
    return whole


@pytest.mark.parametrize("behaviour", ["as_published", "as_mmrec"])
@pytest.mark.parametrize("name", BACKBONES.rows)
def test_killed_and_resumed_equals_uninterrupted_byte_for_byte(settings, monkeypatch, name, behaviour):
    quick = changed(settings.train, behaviour=behaviour, weight_decay_on="parameters", max_epochs=5)
    settings = changed(settings, train=quick)
    toy.run("neighbours-items", settings, dataset="toy", arm="vanilla")
    cell = cell_of(name)
    topk, kept = (toy.path(settings, "topk", **cell).with_name(file) for file in ("topk.parquet", "checkpoint.pt"))
    toy.run("train", settings, **cell)
    uninterrupted = topk.read_bytes(), read(settings, "history", cell).drop("seconds")
    topk.unlink()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        killed_after(2, patched)
        toy.run("train", settings, **cell)
    assert kept.exists() and not topk.exists()
    with monkeypatch.context() as patched:
        killed_after(3, patched)  # dies again if it does not go on from the second epoch
        toy.run("train", settings, **cell)
    assert topk.read_bytes() == uninterrupted[0]
    assert read(settings, "history", cell).drop("seconds").equals(uninterrupted[1])
    assert not kept.exists()


@of_each_kind
@pytest.mark.parametrize("fault", ["other settings", "other backbone", "cut"])
def test_a_foreign_or_broken_checkpoint_is_reported_and_not_used(settings, monkeypatch, caplog, fault, cell):
    left_by = cell_of("bpr") if fault == "other backbone" else cell
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        killed_after(2, patched)
        toy.run("train", settings, **left_by)
    kept = toy.path(settings, "topk", **cell).with_name("checkpoint.pt")
    kept.parent.mkdir(parents=True, exist_ok=True)
    toy.path(settings, "topk", **left_by).with_name("checkpoint.pt").replace(kept)
    if fault == "cut":
        kept.write_bytes(kept.read_bytes()[:100])
    elif fault == "other settings":
        settings = changed(settings, train=changed(settings.train, batch_size=32))
    toy.run("train", settings, **cell)
    assert "training starts over" in caplog.text
    assert read(settings, "history", cell)["epoch"].to_list()[0] == 1


def test_validation_recall_averages_over_users_of_the_split():
    ranking = fitting.Ranking(np.array([[4, 1], [2, 0], [3, -1]]), np.zeros((3, 2), dtype=np.float32))
    valid = pl.DataFrame({"user": [0, 0, 2], "item": [1, 2, 3]})
    assert fitting.mean_recall(ranking, valid) == pytest.approx((1 / 2 + 1) / 2)


@of_each_kind
def test_a_loss_that_is_not_finite_names_the_epoch(settings, monkeypatch, cell):
    losses = iter([0.5, float("nan")])
    monkeypatch.setattr(fitting, "train_epoch", lambda *_, **__: next(losses))
    with pytest.raises(TrainingError, match="the loss of epoch 2 is nan"):
        toy.run("train", settings, **cell)


def test_embeddings_that_are_not_finite_are_not_ranked():
    model = SimpleNamespace(embed=lambda: (torch.tensor([[float("nan")]]), torch.ones(2, 1)))
    with pytest.raises(TrainingError, match="embeddings are not finite"):
        fitting.rank(model, Interactions(*[np.array([], dtype=np.int64)] * 2, n_users=1, n_items=2), 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "lightgcn"}, "lightgcn does not run with arm 'vanilla'; give it the arm content_free"),
        ({"arm": "content_free"}, "freedom does not run with arm 'content_free'; give it an arm with features"),
        ({"backbone": "latice"}, "unknown backbone 'latice'"),
        ({"arm": "clipper"}, "unknown arm 'clipper'"),
        ({"dataset": "bay"}, "unknown dataset 'bay'; known: baby, clothing, sports, toy"),
    ],
)
def test_names_that_do_not_go_together_are_config_errors(settings, change, message):
    with pytest.raises(ConfigError, match=message):
        toy.run("train", settings, **CELL | change)


@pytest.fixture
def awkward(settings) -> Config:
    """User 7 and item 11 are not in train, item 5 has features of zeros, and k is more than there are items."""
    kept = two_tastes()["train"].filter((pl.col("user") != 7) & (pl.col("item") != 11))
    files.write_table(toy.path(settings, "train", **CELL), "train", kept)
    zeros = {name: features()[name].to_numpy().copy() for name in ("image", "text")}
    for rows in zeros.values():
        rows[5] = 0
    spoilt = features().with_columns(pl.Series(name, rows) for name, rows in zeros.items())
    files.write_table(toy.path(settings, "features", **CELL), "features", spoilt)
    wide = {
        "neighbours": changed(settings.neighbours, items=100),
        "train": changed(settings.train, max_epochs=2),
        "backbones": settings.backbones
        | {
            name: settings.backbones[name]._replace(settings=changed(settings.backbones[name].settings, k=100))
            for name in ("lattice", "freedom")
        },
    }
    return changed(settings, **wide)


@pytest.mark.parametrize("behaviour", ["as_published", "as_mmrec"])
@pytest.mark.parametrize("name", BACKBONES.rows)
def test_awkward_data_ends_in_lists_and_metrics_without_nan(awkward, name, behaviour):
    settings = changed(awkward, train=changed(awkward.train, behaviour=behaviour))
    toy.run("neighbours-items", settings, dataset="toy", arm="vanilla")
    toy.run("neighbours-users", settings, dataset="toy")
    cell = cell_of(name)
    toy.run("train", settings, **cell)
    topk = read(settings, "topk", cell)
    assert topk["score"].is_finite().all()
    assert topk.filter(user=7)["item"].sort().to_list() == list(range(N_ITEMS))  # 40 is less than K = 50
    assert topk.filter(item=11)["user"].n_unique() == N_USERS
    toy.run("evaluate", settings, **cell)
    metrics = read(settings, "metrics", cell)
    assert metrics["value"].is_between(0, 1).all()
    assert metrics["n_users"].unique().to_list() == [N_USERS]


def test_a_dataset_without_validation_items_is_a_data_error(settings):
    files.write_table(toy.path(settings, "valid", **CELL), "valid", two_tastes()["valid"].clear())
    with pytest.raises(DataError, match="no user of dataset toy has a validation item"):
        toy.run("train", settings, **CELL)


def test_features_of_another_catalogue_or_in_another_order_are_refused():
    with pytest.raises(FeatureError, match="here has 40 rows, not one for each of 41 items in order; run fuse again"):
        inputs.check_features(features(), 41, what="here")
    with pytest.raises(FeatureError, match="here has 40 rows, not one for each of 40 items in order"):
        inputs.check_features(features().reverse(), 40, what="here")


def test_features_that_are_not_finite_are_refused_with_their_item():
    broken = features()["text"].to_numpy().copy()
    broken[[7, 9], 2] = np.nan, np.inf
    table = features().with_columns(pl.Series("text", broken))
    with pytest.raises(FeatureError, match=r"text features of 2 items \(first: item 7\) are not finite"):
        inputs.check_features(table, N_ITEMS, what="here")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_cuda_is_a_config_error():
    assert choose_device("auto", setting="train.device").type == "cpu"
    with pytest.raises(ConfigError, match=r"train\.device is cuda"):
        choose_device("cuda", setting="train.device")


@pytest.mark.parametrize("behaviour", ["as_published", "as_mmrec"])
def test_a_dropped_item_is_neither_learned_nor_recommended_and_still_counts_at_test(settings, behaviour):
    vanilla = changed(settings.arms["vanilla"], missing_image="drop_item")
    dropping = changed(settings, arms={"vanilla": vanilla}, train=changed(settings.train, behaviour=behaviour))
    item = read(dropping, "test")["item"][0]
    without = features().with_columns(image_is_filled=pl.col("item") == item)
    files.write_table(toy.path(dropping, "features", **CELL), "features", without)
    assert dropped_by(dropping).tolist() == [item]
    toy.run("neighbours-items", dropping, dataset="toy", arm="vanilla")
    toy.run("train", dropping, **CELL)
    assert item not in read(dropping, "topk")["item"].to_list()
    toy.run("evaluate", dropping, **CELL)
    bought = read(dropping, "test").filter(item=item)["user"].to_list()
    reached = read(dropping, "user_metrics").filter(pl.col("user").is_in(bought), metric="recall", k=50)
    assert reached["value"].to_list() == [0.5] * len(bought)  # the other of their two test items


def dropped_by(settings):
    return inputs.items_to_drop(decides.of_train(settings, **CELL), At(Layout(settings), CELL))


def test_other_policies_drop_nothing(settings):
    assert not len(dropped_by(settings))


def test_leaving_items_out_takes_their_train_rows_and_no_number():
    interactions = Interactions(np.array([0, 0, 1]), np.array([0, 2, 2]), n_users=2, n_items=3)
    left = inputs.leave_out(interactions, np.array([2]))
    assert (left.users.tolist(), left.items.tolist(), left.n_users, left.n_items) == ([0], [0], 2, 3)
    with pytest.raises(DataError, match="every train item is dropped"):
        inputs.leave_out(interactions, np.array([0, 2]))
