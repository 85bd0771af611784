import ast
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid
from toy import SHARED

from cliper import config
from cliper.errors import ConfigError
from cliper.models.backbones import BACKBONES, find
from cliper.models.backbones.base import Graphs, Interactions, ItemFeatures, Triples
from cliper.models.maths.nearest import nearest_items, sharing_users
from cliper.models.maths.ranking import rank_items
from cliper.models.maths.sparse import interaction_graph

GOLDEN = SHARED / "golden"

# Three users, five items; item 4 is not in train.
TOY = Interactions(np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 2, 3]), n_users=3, n_items=5)
BATCH = Triples(torch.tensor([0, 2, 1]), torch.tensor([1, 3, 1]), torch.tensor([2, 1, 3]))
FREEDOM = config.Freedom(2, 1, k=2, image_weight=0.1, edge_dropout=0.4, reg_weight=0.5)
SETTINGS = {
    "bpr": config.Bpr(),
    "dualgnn": config.Dualgnn(2, hidden_width=5, n_neighbours=2, reg_weight=0.1),
    "freedom": FREEDOM,
    "lattice": config.Lattice(2, 1, k=2, frozen_weight=0.7, reg_weight=0.01, learning_rate_decay=0.96),
    "lightgcn": config.Lightgcn(2),
    "mmgcn": config.Mmgcn(2, image_width=5, reg_weight=0.1),
    "slmrec": config.Slmrec(3, temperature=0.2, ssl_temperature=0.5, ssl_weight=0.1),
    "vbpr": config.Vbpr(),
}


def toy_features() -> ItemFeatures:
    generator = np.random.default_rng(0)
    image, text = (generator.standard_normal((5, width)).astype(np.float32) for width in (6, 4))
    return ItemFeatures(image, text, np.array([False, True, False, False, False]), np.zeros(5, dtype=bool))


def graphs_of(interactions: Interactions, features: ItemFeatures | None, k: int = 4) -> Graphs:
    users = sharing_users(interactions.users, interactions.items, n_users=interactions.n_users, k=40)
    if features is None:
        return Graphs(users=users)
    return Graphs(
        nearest_items(features.image, features.image_is_filled, k),
        nearest_items(features.text, features.text_is_filled, k),
        users,
    )


def build(name: str, *, d: int = 4, seed: int = 0, behaviour: str = "as_published", mlp_width: int | None = None):
    backbone = BACKBONES[name]
    features = toy_features()._replace(mlp_width=mlp_width) if backbone.uses_features else None
    generator = torch.Generator().manual_seed(seed)
    graphs = graphs_of(TOY, features)
    return backbone(TOY, features, graphs, SETTINGS[name], d=d, generator=generator, behaviour=behaviour)


def test_registry_config_and_schema_name_the_same_backbones():
    schema = config.schema()["properties"]
    names = {
        frozenset(BACKBONES),
        frozenset(field.name for field in fields(config.Backbones)),
        frozenset(schema["backbones"]["properties"]),
        frozenset(schema["run"]["properties"]["backbones"]["items"]["enum"]),
        frozenset(SETTINGS),
    }
    assert len(names) == 1


def test_the_config_knows_what_each_backbone_reads():
    for names, uses in (
        (set(BACKBONES) - config.CONTENT_FREE_BACKBONES, "uses_features"),
        (config.ITEM_GRAPH_BACKBONES, "uses_item_graph"),
        (config.USER_GRAPH_BACKBONES, "uses_user_graph"),
    ):
        assert names == {name for name, backbone in BACKBONES.items() if getattr(backbone, uses)}


def test_an_unknown_backbone_lists_the_known_ones():
    with pytest.raises(ConfigError, match="unknown backbone 'fredom'; known: bpr, .*freedom"):
        find("fredom")


@pytest.mark.parametrize("name", BACKBONES)
def test_embeddings_have_one_row_a_user_and_item_and_repeat(name):
    model = build(name)
    users, items = model.embed()
    width = 8 if name == "vbpr" else 4  # its embeddings have two halves
    assert (users.shape, items.shape) == ((3, width), (5, width))
    for again in (model, build(name)):
        assert all(map(torch.equal, again.embed(), (users, items)))
    assert not torch.equal(build(name, seed=1).embed()[0], users)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_parameter_gets_a_gradient_and_training_lowers_the_loss(name):
    model = build(name)
    edges = np.random.default_rng(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    losses = []
    for _ in range(20):
        model.start_epoch(edges)  # one batch an epoch: LATTICE learns its graph in the first only
        optimiser.zero_grad()
        loss = model.loss(BATCH)
        loss.backward()
        for parameter_name, parameter in model.named_parameters():
            assert parameter.grad is not None and parameter.grad.shape == parameter.shape, parameter_name
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", BACKBONES)
def test_the_state_carries_all_that_was_learned_and_no_graph(name):
    model, other = build(name), build(name, seed=1)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.embed()[0], model.embed()[0])
    assert set(model.state_dict()) == {parameter for parameter, _ in model.named_parameters()}


@pytest.mark.parametrize("name", BACKBONES)
def test_building_a_backbone_leaves_the_global_generator_alone(name):
    before = torch.random.get_rng_state()
    build(name)
    assert torch.equal(torch.random.get_rng_state(), before)


# User 3 has nothing in train, nobody bought item 4; item 1 is filled, item 2 has an image of zeros, item 3 a text.
BARE = Interactions(np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 2, 3]), n_users=4, n_items=5)


def bare_features() -> ItemFeatures:
    features = toy_features()
    features.image[2] = features.text[3] = 0
    return features


@pytest.mark.parametrize("behaviour", ["as_published", "as_mmrec"])
@pytest.mark.parametrize("name", BACKBONES)
def test_rows_of_zeros_users_without_train_items_and_unbought_items_leave_no_nan(name, behaviour):
    features = bare_features() if BACKBONES[name].uses_features else None
    graphs = graphs_of(BARE, features, k=20)  # more than there are items
    wide = {field.name: 20 for field in fields(SETTINGS[name]) if field.name in ("k", "n_neighbours")}
    settings = replace(SETTINGS[name], **wide)
    generator = torch.Generator().manual_seed(0)
    model = BACKBONES[name](BARE, features, graphs, settings, d=4, generator=generator, behaviour=behaviour)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    for epoch in range(3):
        for embeddings in model.embed():
            assert embeddings.isfinite().all(), f"before epoch {epoch}"
        model.start_epoch(np.random.default_rng(0))
        for batch in (BATCH, Triples(*(part[:1] for part in BATCH))):
            optimiser.zero_grad()
            loss = model.loss(batch)
            loss.backward()
            assert loss.isfinite()
            assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
            optimiser.step()
    with torch.no_grad():
        ranking = rank_items(*model.embed(), train_users=BARE.users, train_items=BARE.items, k=50, score=model.score)
    assert sorted(ranking.items[3]) == [0, 1, 2, 3, 4]  # all there are, though 50 were asked for
    assert [set(row) - {-1} for row in ranking.items.tolist()[:3]] == [{2, 3, 4}, {0, 2, 3, 4}, {0, 1, 4}]
    assert np.isfinite(ranking.scores[ranking.items >= 0]).all()


def test_lightgcn_loss_is_bpr_on_embeddings_averaged_over_the_layers():
    # LightGCN, equations 3, 4, 8 and 15, on dense matrices.
    model = build("lightgcn")
    adjacency = torch.zeros(3, 5)
    adjacency[TOY.users, TOY.items] = torch.tensor([2.0, 4, 2, 2, 2]).rsqrt()  # degrees 2·1, 2·2, 1·2, 2·1, 2·1
    users, items = model.users, model.items
    layer_1 = adjacency @ items, adjacency.T @ users
    layer_2 = adjacency @ layer_1[1], adjacency.T @ layer_1[0]
    user_mean, item_mean = (users + layer_1[0] + layer_2[0]) / 3, (items + layer_1[1] + layer_2[1]) / 3
    u, p, n = BATCH
    margins = (user_mean[u] * (item_mean[p] - item_mean[n])).sum(1)
    torch.testing.assert_close(model.loss(BATCH), -logsigmoid(margins).mean())


def test_freedom_adds_the_item_graph_and_the_loss_of_both_modalities():
    # FREEDOM, by its code, on dense matrices. Before the first epoch all edges are there.
    model, features = build("freedom"), toy_features()
    lightgcn = build("lightgcn")
    lightgcn.load_state_dict({"users": model.users.data, "items": model.items.data})
    users, items = lightgcn.embed()
    graph = torch.zeros(5, 5)
    for weight, rows, usable in ((0.1, features.image, [0, 2, 3, 4]), (0.9, features.text, [0, 1, 2, 3, 4])):
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for i in usable:
            for j in sorted(usable, key=lambda j: -(unit[i] @ unit[j]))[:2]:
                graph[i, j] += weight / 2
    torch.testing.assert_close(model.embed(), (users, items + graph @ model.items))

    u, p, n = BATCH
    projected = [
        part.features @ projection.weight.T
        for part, projection in ((model.image, model.image_projection), (model.text, model.text_projection))
    ]
    terms = [-logsigmoid((users[u] * (z[p] - z[n])).sum(1)).mean() for z in (items + graph @ model.items, *projected)]
    torch.testing.assert_close(model.loss(BATCH), terms[0] + 0.5 * (terms[1] + terms[2]))


def test_freedom_drops_edges_in_training_only():
    model = build("freedom")
    before = model.embed()[0]
    model.start_epoch(np.random.default_rng(0))
    assert len(model.train_graph.by_row.values) == 3  # of 5 edges, 0.4 dropped
    assert torch.equal(model.embed()[0], before)


NAMES = {  # as in the toolbox -> as here
    "user_embedding.weight": "users",
    "item_id_embedding.weight": "items",
    "image_embedding.weight": "image.features",
    "image_trs.weight": "image_projection.weight",
    "image_trs.bias": "image_projection.bias",
    "text_embedding.weight": "text.features",
    "text_trs.weight": "text_projection.weight",
    "text_trs.bias": "text_projection.bias",
}


def golden_freedom(golden, inputs):
    settings = ast.literal_eval(str(golden["settings"]))
    features = ItemFeatures(
        inputs["image_feat"], inputs["text_feat"], np.zeros(30, dtype=bool), np.zeros(30, dtype=bool)
    )
    train = Interactions(inputs["train_user"], inputs["train_item"], int(inputs["n_users"]), int(inputs["n_items"]))
    section = config.Freedom(
        n_ui_layers=settings["n_ui_layers"],
        n_item_layers=settings["n_mm_layers"],
        k=settings["knn_k"],
        image_weight=settings["mm_image_weight"],
        edge_dropout=settings["dropout"],
        reg_weight=settings["reg_weight"],
    )
    graphs = graphs_of(train, features, section.k)
    model = BACKBONES["freedom"](
        train, features, graphs, section, d=8, generator=torch.Generator(), behaviour="as_mmrec"
    )
    model.load_state_dict({ours: torch.tensor(golden[f"param::{theirs}"]) for theirs, ours in NAMES.items()})
    half = golden["const::masked_adj_idx"].shape[1] // 2  # the other half is the transpose
    users, items = golden["const::masked_adj_idx"][:, :half]
    model.train_graph = interaction_graph(users, items - train.n_users, train.n_users, train.n_items)
    return model, settings


def assert_parameters_equal(model, golden, prefix, *, of, **tolerance):
    for theirs, ours in NAMES.items():
        if not ours.endswith("bias"):  # their true gradient is 0: Adam makes steps of rounding noise
            expected = torch.tensor(golden[f"{prefix}::{theirs}"])
            torch.testing.assert_close(of(model.get_parameter(ours)), expected, **tolerance)


@pytest.mark.skipif(not GOLDEN.exists(), reason="needs ../shared/golden")
@pytest.mark.parametrize("case", ["plain", "weight_decay", "edge_dropout"])
def test_freedom_equals_the_toolbox_golden(case):
    golden, inputs = np.load(GOLDEN / f"freedom/{case}.npz"), np.load(GOLDEN / "inputs.npz")
    model, settings = golden_freedom(golden, inputs)
    close = {"rtol": 1e-4, "atol": 1e-6}  # tolerances of golden/README.md
    users, items = model.embed()
    torch.testing.assert_close(users @ items.T, torch.tensor(golden["scores_init"]), **close)
    trained = torch.cat(model._propagate(model.train_graph))
    torch.testing.assert_close(trained, torch.tensor(golden["repr_train_init"]), **close)

    optimiser = torch.optim.Adam(
        model.parameters(), lr=settings["learning_rate"], weight_decay=settings["weight_decay"], fused=True
    )
    for step, batch in enumerate(torch.tensor(inputs["batches"])):
        optimiser.zero_grad()
        loss = model.loss(Triples(*batch))
        assert loss.item() == pytest.approx(golden[f"loss_step{step}"].item(), rel=1e-4, abs=1e-6)
        loss.backward()
        if step == 0:
            assert_parameters_equal(model, golden, "grad", of=lambda parameter: parameter.grad, **close)
        optimiser.step()
        if step == 0:
            assert_parameters_equal(model, golden, "after1", of=lambda parameter: parameter, rtol=0, atol=5e-5)
    assert_parameters_equal(model, golden, "after3", of=lambda parameter: parameter, rtol=0, atol=5e-5)


@pytest.mark.skipif(not GOLDEN.exists(), reason="needs ../shared/golden")
def test_freedom_graphs_equal_the_toolbox_golden():
    golden, inputs = np.load(GOLDEN / "freedom/plain.npz"), np.load(GOLDEN / "inputs.npz")
    model, _ = golden_freedom(golden, inputs)
    for name, ours in (
        ("mm", model.item_graph(torch.eye(30))),
        ("norm", torch.cat([torch.zeros(40, 40), model.graph(torch.eye(30))], dim=1)),
    ):
        theirs = torch.zeros(70, 70)
        theirs[tuple(golden[f"const::{name}_adj_idx"])] = torch.tensor(golden[f"const::{name}_adj_val"])
        torch.testing.assert_close(ours, theirs[: ours.shape[0], : ours.shape[1]], rtol=1e-5, atol=1e-7)
