"""LATTICE."""

import numpy as np
import pytest
import torch
from golden import CLOSE, build_golden, copy_golden, follow_golden, needs_golden, read_golden
from torch.nn.functional import logsigmoid, normalize
from toy_backbones import BATCH, BEHAVIOURS, TOY, build, toy_features

from cliper.models.backbones.base import ItemFeatures, Triples
from cliper.models.backbones.lattice import ItemGraph, Lattice, Modality, normalise
from cliper.models.backbones.rows import FeatureRows, linear
from cliper.models.maths.nearest import nearest_items


def build_lattice(features: ItemFeatures | None = None, *, behaviour: str = "as_published", **changes) -> Lattice:
    return build("lattice", features=features, behaviour=behaviour, **{"n_item_layers": 2} | changes)


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
    model = build_lattice()
    item_graph = dense_item_graph(model)
    torch.testing.assert_close(dense(model.build_item_graph()), item_graph)
    loss, expected = model.loss(BATCH), dense_loss(model, item_graph)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradients(model, loss), gradients(model, expected), rtol=1e-4, atol=1e-6)


def test_later_batches_of_an_epoch_use_the_graph_of_the_first_and_give_it_no_gradient():
    model = build_lattice()
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


def test_adam_leaves_what_has_no_gradient_as_it_is():
    # On the authors' torch 1.5 momentum and decay go on moving it: there gradients are zeros, here there are none.
    model = build_lattice()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1, weight_decay=0.1, fused=True)
    model.start_epoch(np.random.default_rng(0))
    states = []
    for _ in range(2):
        optimiser.zero_grad()
        model.loss(BATCH).backward()
        optimiser.step()
        states.append({name: value.detach().clone() for name, value in model.named_parameters()})
    moved = {name for name in states[0] if not torch.equal(*(state[name] for state in states))}
    assert moved == {"users", "items"}


def test_embeddings_come_from_a_graph_of_the_current_parameters():
    model = build_lattice()
    model.loss(BATCH)
    with torch.no_grad():
        for parameter in (model.modality_scores, model.image.projection.weight):
            parameter[0].mul_(-3)
    torch.testing.assert_close(model.embed(), dense_embed(model, dense_item_graph(model)))


def test_an_epoch_after_an_evaluation_searches_no_second_time(monkeypatch):
    model = build_lattice()
    model.embed()
    monkeypatch.setattr("cliper.models.backbones.lattice.nearest_rows", None)
    model.start_epoch(np.random.default_rng(0))
    loss, expected = model.loss(BATCH), dense_loss(model, dense_item_graph(model))
    torch.testing.assert_close(gradients(model, loss), gradients(model, expected), rtol=1e-4, atol=1e-6)


def test_the_regulariser_of_a_short_batch_is_divided_by_its_rows_as_published_and_a_full_batch_as_mmrec():
    short = Triples(*(part[:1] for part in BATCH))
    expected, values = {}, {}
    for behaviour in BEHAVIOURS:
        model, without = build_lattice(behaviour=behaviour), build_lattice(reg_weight=0.0, behaviour=behaviour)
        full = model.loss(BATCH)
        torch.testing.assert_close(full, dense_loss(model, dense_item_graph(model)))
        values[behaviour] = (model.loss(short) - without.loss(short)).item()
        users, items = model.embed()
        squares = (users[0].square() + items[1].square() + items[2].square()).sum().item()
        expected[behaviour] = 0.01 * squares / 2 / {"as_published": 1, "as_mmrec": 3}[behaviour]
    assert values == pytest.approx(expected, rel=1e-4)


def test_the_learning_rate_falls_by_its_decay_in_50_epochs():
    model = build_lattice()
    assert [model.learning_rate_factor(epoch) for epoch in (0, 25, 50)] == pytest.approx([1, 0.96**0.5, 0.96])


def test_filled_and_zero_rows_stay_out_of_the_learned_graph():
    features = toy_features()
    features.text[3] = 0
    model = build_lattice(features)
    for modality, out in ((model.image, 1), (model.text, 3)):
        for graph in (modality.learned_graph(), modality.frozen_graph()):
            links = dense(graph)
            assert (links[out] == 0).all() and (links[:, out] == 0).all()
            assert ((links != 0).sum(1) == 2).sum() == 4  # all others have k neighbours


def test_unfilled_flags_make_filled_rows_ordinary_as_the_toolbox_does():
    features = toy_features()._replace(image_is_filled=np.zeros(5, dtype=bool))
    links = dense(build_lattice(features, behaviour="as_mmrec").image.learned_graph())
    assert links[1, 1].item() == pytest.approx(1)


def test_ties_in_the_learned_graph_go_to_the_lower_item():
    features = toy_features()
    features.text[:] = features.text[0]
    assert build_lattice(features).text.learned_graph().nearest.tolist() == [[0, 1]] * 5


def test_a_modality_that_no_item_has_leaves_the_other_one():
    features = toy_features()._replace(text_is_filled=np.ones(5, dtype=bool))
    model = build_lattice(features)
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
    model = build_lattice(k=9)
    assert dense(model.text.learned_graph()).count_nonzero() == 25
    assert model.loss(BATCH).isfinite()


def test_the_mlp_leaves_the_frozen_graph_as_it_is():
    model, bare = build_lattice(toy_features(mlp_width=3)), build_lattice()
    assert torch.equal(model.text.frozen_weights, bare.text.frozen_weights)


def test_decayed_rows_are_the_embeddings_before_propagation():
    model = build_lattice()
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


def golden_lattice(case, behaviour):
    golden, inputs, settings = read_golden(f"lattice/{case}")
    model = build_golden(
        "lattice",
        inputs,
        behaviour=behaviour,
        n_ui_layers=len(settings["weight_size"]),
        n_item_layers=settings["n_layers"],
        k=settings["knn_k"],
        frozen_weight=settings["lambda_coeff"],
        reg_weight=settings["reg_weight"],
        learning_rate_decay=0.96,
    )
    for modality in (model.image, model.text):  # there features are projected to another width than d
        modality.projection = linear(modality.rows.width, settings["feat_embed_dim"], torch.Generator())
    copy_golden(model, golden, NAMES)
    return model, golden, inputs, settings


@needs_golden
@pytest.mark.parametrize("behaviour", BEHAVIOURS)  # one where all batches are full
@pytest.mark.parametrize("case", ["plain", "weight_decay", "one_layer"])
def test_lattice_equals_the_toolbox_golden(case, behaviour):
    model, golden, inputs, settings = golden_lattice(case, behaviour)
    users, items = model.embed()
    torch.testing.assert_close(users @ items.T, torch.tensor(golden["scores_init"]), **CLOSE)
    torch.testing.assert_close(torch.cat([users, items]), torch.tensor(golden["repr_train_init"]), **CLOSE)
    model.start_epoch(np.random.default_rng(0))
    follow_golden(model, golden, inputs, settings, NAMES)
    users, items = model.embed()
    # Follows from parameters that may differ by 5e-5, through 16 products of numbers near 1.
    torch.testing.assert_close(users @ items.T, torch.tensor(golden["scores_after3"]), rtol=0, atol=1e-3)


@needs_golden
def test_lattice_graphs_equal_the_toolbox_golden():
    model, golden, *_ = golden_lattice("plain", "as_mmrec")
    for name, ours in (
        ("image_original_adj", dense(model.image.frozen_graph())),
        ("text_original_adj", dense(model.text.frozen_graph())),
        ("item_adj_first", dense(model.build_item_graph())),
        ("norm_adj_dense", model.graph(torch.eye(70))),
    ):
        torch.testing.assert_close(ours, torch.tensor(golden[f"const::{name}"]), rtol=1e-5, atol=1e-6)
