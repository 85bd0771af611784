import ast
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_backbones import BATCH, TOY, graphs_of, toy_features
from torch.nn.functional import logsigmoid, normalize
from toy import SHARED

from cliper import config
from cliper.models.backbones.base import Interactions, ItemFeatures, Triples
from cliper.models.backbones.lattice import ItemGraph, Lattice, Modality, normalise
from cliper.models.backbones.rows import FeatureRows, linear
from cliper.models.maths.nearest import nearest_items

GOLDEN = SHARED / "golden"
SETTINGS = config.Lattice(2, 2, k=2, frozen_weight=0.7, reg_weight=0.01, learning_rate_decay=0.96)


def build(
    settings: config.Lattice = SETTINGS,
    features: ItemFeatures | None = None,
    *,
    behaviour: str = "as_published",
) -> Lattice:
    features = features or toy_features()
    generator = torch.Generator().manual_seed(0)
    graphs = graphs_of(TOY, features)
    return Lattice(TOY, features, graphs, settings, d=4, generator=generator, behaviour=behaviour)


def dense(graph: ItemGraph) -> torch.Tensor:
    n_items = len(graph.nearest)
    return torch.zeros(n_items, n_items).scatter_add(1, graph.nearest, graph.weights)


def dense_knn(rows: torch.Tensor, usable: list[int], k: int) -> torch.Tensor:
    """Cosines at the k highest of each row, by loops over pairs."""
    unit, found = normalize(rows), torch.zeros(len(rows), len(rows))
    for i in usable:
        cosines = {j: unit[i] @ unit[j] for j in usable}
        for j in sorted(usable, key=lambda j: (-cosines[j].item(), j))[:k]:
            found[i, j] = cosines[j]
    return found


def dense_laplacian(matrix: torch.Tensor) -> torch.Tensor:
    root = torch.diag(matrix.sum(1).clamp(min=0) ** -0.5)
    return torch.nan_to_num(root, posinf=0) @ matrix @ torch.nan_to_num(root, posinf=0)


def dense_item_graph(model: Lattice) -> torch.Tensor:
    """The item graph of the toy world on dense matrices; the image of item 1 is filled."""
    parts = [(model.image, toy_features().image, [0, 2, 3, 4]), (model.text, toy_features().text, [0, 1, 2, 3, 4])]
    shares = torch.exp(model.modality_scores) / torch.exp(model.modality_scores).sum()
    learned, frozen = torch.zeros(5, 5), torch.zeros(5, 5)
    for share, (modality, raw, usable) in zip(shares, parts, strict=True):
        projected = modality.rows.features @ modality.projection.weight.T + modality.projection.bias
        learned = learned + share * dense_knn(projected, usable, 2)
        frozen = frozen + share * dense_laplacian(dense_knn(torch.tensor(raw), usable, 2))
    return 0.3 * dense_laplacian(learned) + 0.7 * frozen


def dense_embed(model: Lattice, item_graph: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    adjacency = torch.eye(8)  # self-loops
    adjacency[TOY.users, TOY.items + 3] = adjacency[TOY.items + 3, TOY.users] = 1
    walk = adjacency / adjacency.sum(1, keepdim=True)
    layer_0 = torch.cat([model.users, model.items])
    users, items = ((layer_0 + walk @ layer_0 + walk @ walk @ layer_0) / 3).split([3, 5])
    return users, items + normalize(item_graph @ item_graph @ model.items)


def dense_loss(model: Lattice, item_graph: torch.Tensor) -> torch.Tensor:
    users, items = dense_embed(model, item_graph)
    u, p, n = users[BATCH.users], items[BATCH.positives], items[BATCH.negatives]
    squares = u.square().sum() + p.square().sum() + n.square().sum()
    return -logsigmoid((u * (p - n)).sum(1)).mean() + 0.01 * squares / 2 / 3


def gradients(model: Lattice, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


def test_the_first_batch_equals_dense_matrices_in_loss_and_gradients():
    # LATTICE's code, on dense matrices; item 4 is isolated in the user-item graph.
    model = build()
    item_graph = dense_item_graph(model)
    torch.testing.assert_close(dense(model.build_item_graph()), item_graph)
    loss, expected = model.loss(BATCH), dense_loss(model, item_graph)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradients(model, loss), gradients(model, expected), rtol=1e-4, atol=1e-6)


def test_later_batches_of_an_epoch_use_the_graph_of_the_first_and_give_it_no_gradient():
    model = build()
    first = dense_item_graph(model).detach()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    learning = [name for name, _ in model.named_parameters() if name not in ("users", "items")]
    for step in range(3):
        optimiser.zero_grad()
        before = {name: model.get_parameter(name).clone() for name in learning}
        loss = model.loss(BATCH)
        torch.testing.assert_close(loss, dense_loss(model, first))
        loss.backward()
        optimiser.step()
        for name in learning:  # Adam skips parameters without a gradient: no momentum moves them
            assert torch.equal(model.get_parameter(name), before[name]) == (step > 0), name
    model.start_epoch(np.random.default_rng(0))
    rebuilt = dense_item_graph(model)
    assert not torch.allclose(rebuilt, first)
    loss = model.loss(BATCH)
    torch.testing.assert_close(loss, dense_loss(model, rebuilt))
    assert all(gradient.abs().sum() > 0 for gradient in gradients(model, loss))


def test_embeddings_come_from_a_graph_of_the_current_parameters():
    model = build()
    model.loss(BATCH)
    with torch.no_grad():
        for parameter in (model.modality_scores, model.image.projection.weight):
            parameter[0].mul_(-3)
    torch.testing.assert_close(model.embed(), dense_embed(model, dense_item_graph(model)))


def test_an_epoch_after_an_evaluation_searches_no_second_time(monkeypatch):
    model = build()
    model.embed()
    monkeypatch.setattr("cliper.models.backbones.lattice.nearest_rows", None)
    model.start_epoch(np.random.default_rng(0))
    loss, expected = model.loss(BATCH), dense_loss(model, dense_item_graph(model))
    torch.testing.assert_close(gradients(model, loss), gradients(model, expected), rtol=1e-4, atol=1e-6)


def test_the_regulariser_of_a_short_batch_is_divided_by_its_rows_as_published_and_a_full_batch_as_mmrec():
    short = Triples(*(part[:1] for part in BATCH))
    expected, values = {}, {}
    for behaviour in ("as_published", "as_mmrec"):
        model, without = build(behaviour=behaviour), build(replace(SETTINGS, reg_weight=0.0), behaviour=behaviour)
        full = model.loss(BATCH)
        torch.testing.assert_close(full, dense_loss(model, dense_item_graph(model)))
        values[behaviour] = (model.loss(short) - without.loss(short)).item()
        users, items = model.embed()
        squares = (users[0].square() + items[1].square() + items[2].square()).sum().item()
        expected[behaviour] = 0.01 * squares / 2 / {"as_published": 1, "as_mmrec": 3}[behaviour]
    assert values == pytest.approx(expected, rel=1e-4)


CHANGES = {"n_ui_layers": 1, "n_item_layers": 1, "k": 3, "frozen_weight": 0.2, "reg_weight": 0.5}


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_changes_the_loss(name):
    changed = build(replace(SETTINGS, **{name: CHANGES[name]}))
    assert changed.loss(BATCH).item() != pytest.approx(build().loss(BATCH).item(), rel=1e-5)


def test_the_learning_rate_falls_by_its_decay_in_50_epochs():
    model = build()
    assert [model.learning_rate_factor(epoch) for epoch in (0, 25, 50)] == pytest.approx([1, 0.96**0.5, 0.96])


def test_filled_and_zero_rows_stay_out_of_the_learned_graph():
    features = toy_features()
    features.text[3] = 0
    model = build(features=features)
    for modality, out in ((model.image, 1), (model.text, 3)):
        for graph in (modality.learned_graph(), modality.frozen_graph()):
            links = dense(graph)
            assert (links[out] == 0).all() and (links[:, out] == 0).all()
            assert ((links != 0).sum(1) == 2).sum() == 4  # all others have k neighbours


def test_unfilled_flags_make_filled_rows_ordinary_as_the_toolbox_does():
    features = toy_features()._replace(image_is_filled=np.zeros(5, dtype=bool))
    links = dense(build(features=features, behaviour="as_mmrec").image.learned_graph())
    assert links[1, 1].item() == pytest.approx(1)


def test_ties_in_the_learned_graph_go_to_the_lower_item():
    features = toy_features()
    features.text[:] = features.text[0]
    assert build(features=features).text.learned_graph().nearest.tolist() == [[0, 1]] * 5


def test_a_modality_that_no_item_has_leaves_the_other_one():
    features = toy_features()._replace(text_is_filled=np.ones(5, dtype=bool))
    model = build(features=features)
    loss = model.loss(BATCH)
    loss.backward()
    assert loss.isfinite() and dense(model.build_item_graph())[1].abs().sum() == 0  # item 1 has no image either
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_an_item_whose_similarities_add_up_to_no_more_than_zero_has_no_edges():
    # Sums of rows: 1 + .44 = 1.44, 1 - 1 = 0, 1 - 2 < 0.
    weights = torch.tensor([[1.0, 0.44], [1.0, -1.0], [1.0, -2.0]], requires_grad=True)
    graph = normalise(ItemGraph(torch.tensor([[0, 1], [1, 2], [2, 0]]), weights))
    torch.testing.assert_close(dense(graph), torch.diag(torch.tensor([1 / 1.44, 0, 0])))
    graph.weights.sum().backward()
    assert weights.grad.isfinite().all()


def test_a_learned_graph_found_in_blocks_equals_loops_over_pairs(monkeypatch):
    monkeypatch.setattr("cliper.models.maths.nearest.BLOCK", 70)  # 2 of 30 rows at a time
    rows = np.random.default_rng(0).standard_normal((30, 6)).astype(np.float32)
    none = np.zeros(30, dtype=bool)
    generator = torch.Generator().manual_seed(0)
    features = FeatureRows(rows, is_trained=True, generator=generator)
    modality = Modality(features, none, nearest_items(rows, none, 4), k=4, d=5, generator=generator)
    expected = dense_knn(modality.projection(modality.rows()), list(range(30)), 4)
    graph = dense(modality.learned_graph())
    torch.testing.assert_close(graph, expected)
    weights = torch.rand(30, 30, generator=generator)
    of = list(modality.parameters())
    ours, theirs = (torch.autograd.grad((weights * each).sum(), of) for each in (graph, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_k_beyond_the_number_of_items_takes_them_all():
    model = build(replace(SETTINGS, k=9))
    assert dense(model.text.learned_graph()).count_nonzero() == 25
    assert model.loss(BATCH).isfinite()


def test_the_mlp_is_learned_and_the_frozen_graph_is_not_its_business():
    features = toy_features()._replace(mlp_width=3)
    model, other = build(features=features), build(features=features)
    with torch.no_grad():
        other.text.rows.mlp.weight.mul_(-2)
    assert torch.equal(model.text.frozen_weights, other.text.frozen_weights)
    assert model.loss(BATCH).item() != pytest.approx(other.loss(BATCH).item(), rel=1e-5)
    model.start_epoch(np.random.default_rng(0))
    model.loss(BATCH).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.text.rows.mlp.parameters())


def test_decayed_rows_are_the_embeddings_before_propagation():
    model = build()
    rows = model.decayed(BATCH)
    expected = model.users[BATCH.users], model.items[BATCH.positives], model.items[BATCH.negatives]
    assert all(map(torch.equal, rows, expected))


NAMES = {  # as in the toolbox -> as here
    "modal_weight": "modality_scores",
    "user_embedding.weight": "users",
    "item_id_embedding.weight": "items",
    "image_embedding.weight": "image.rows.features",
    "image_trs.weight": "image.projection.weight",
    "image_trs.bias": "image.projection.bias",
    "text_embedding.weight": "text.rows.features",
    "text_trs.weight": "text.projection.weight",
    "text_trs.bias": "text.projection.bias",
}
CLOSE = {"rtol": 1e-4, "atol": 1e-6}  # tolerances of golden/README.md, as below


def golden_lattice(golden, inputs, behaviour):
    settings = ast.literal_eval(str(golden["settings"]))
    none = np.zeros(30, dtype=bool)
    features = ItemFeatures(inputs["image_feat"], inputs["text_feat"], none, none)
    train = Interactions(inputs["train_user"], inputs["train_item"], int(inputs["n_users"]), int(inputs["n_items"]))
    section = config.Lattice(
        n_ui_layers=len(settings["weight_size"]),
        n_item_layers=settings["n_layers"],
        k=settings["knn_k"],
        frozen_weight=settings["lambda_coeff"],
        reg_weight=settings["reg_weight"],
        learning_rate_decay=0.96,
    )
    generator = torch.Generator()
    graphs = graphs_of(train, features, k=8)  # more than it takes
    model = Lattice(train, features, graphs, section, d=8, generator=generator, behaviour=behaviour)
    for modality in (model.image, model.text):  # there features are projected to another width than d
        modality.projection = linear(modality.rows.width, settings["feat_embed_dim"], generator)
    model.load_state_dict({ours: torch.tensor(golden[f"param::{theirs}"]) for theirs, ours in NAMES.items()})
    return model, settings


def assert_parameters_equal(model, golden, prefix, *, of, **tolerance):
    for theirs, ours in NAMES.items():
        expected = torch.tensor(golden[f"{prefix}::{theirs}"])
        torch.testing.assert_close(of(model.get_parameter(ours)), expected, **tolerance)


@pytest.mark.skipif(not GOLDEN.exists(), reason="needs ../shared/golden")
@pytest.mark.parametrize("behaviour", ["as_mmrec", "as_published"])  # one where all batches are full
@pytest.mark.parametrize("case", ["plain", "weight_decay", "one_layer"])
def test_lattice_equals_the_toolbox_golden(case, behaviour):
    golden, inputs = np.load(GOLDEN / f"lattice/{case}.npz"), np.load(GOLDEN / "inputs.npz")
    model, settings = golden_lattice(golden, inputs, behaviour)
    users, items = model.embed()
    torch.testing.assert_close(users @ items.T, torch.tensor(golden["scores_init"]), **CLOSE)
    torch.testing.assert_close(torch.cat([users, items]), torch.tensor(golden["repr_train_init"]), **CLOSE)

    optimiser = torch.optim.Adam(
        model.parameters(), lr=settings["learning_rate"], weight_decay=settings["weight_decay"], fused=True
    )
    model.start_epoch(np.random.default_rng(0))
    for step, batch in enumerate(torch.tensor(inputs["batches"])):
        optimiser.zero_grad()
        loss = model.loss(Triples(*batch))
        assert loss.item() == pytest.approx(golden[f"loss_step{step}"].item(), rel=1e-4, abs=1e-6)
        loss.backward()
        if step == 0:
            assert_parameters_equal(model, golden, "grad", of=lambda parameter: parameter.grad, **CLOSE)
        optimiser.step()
        if step == 0:
            assert_parameters_equal(model, golden, "after1", of=lambda parameter: parameter, rtol=0, atol=5e-5)
    assert_parameters_equal(model, golden, "after3", of=lambda parameter: parameter, rtol=0, atol=5e-5)
    users, items = model.embed()
    # Follows from parameters that may differ by 5e-5, through 16 products of numbers near 1.
    torch.testing.assert_close(users @ items.T, torch.tensor(golden["scores_after3"]), rtol=0, atol=1e-3)


@pytest.mark.skipif(not GOLDEN.exists(), reason="needs ../shared/golden")
def test_lattice_graphs_equal_the_toolbox_golden():
    golden, inputs = np.load(GOLDEN / "lattice/plain.npz"), np.load(GOLDEN / "inputs.npz")
    model, _ = golden_lattice(golden, inputs, "as_mmrec")
    for name, ours in (
        ("image_original_adj", dense(model.image.frozen_graph())),
        ("text_original_adj", dense(model.text.frozen_graph())),
        ("item_adj_first", dense(model.build_item_graph())),
        ("norm_adj_dense", model.graph(torch.eye(70))),
    ):
        torch.testing.assert_close(ours, torch.tensor(golden[f"const::{name}"]), rtol=1e-5, atol=1e-6)
