"""DualGNN."""

import ast
import dataclasses
import math

import numpy as np
import pytest
import torch
from test_backbones import BATCH, SETTINGS, TOY, build, graphs_of, toy_features
from torch.nn.functional import leaky_relu, normalize
from toy import SHARED

from cliper import config
from cliper.models.backbones.base import Graphs, Interactions, ItemFeatures, Triples
from cliper.models.backbones.dualgnn import Dualgnn, WeightedNeighbours, repeat_neighbours
from cliper.models.maths.nearest import Neighbours

GOLDEN = SHARED / "golden"
BEHAVIOURS = ["as_published", "as_mmrec"]
# Users 0 and 1 share one item; user 0 shares two with user 2 by a made-up count, so that weights differ.
USERS = Neighbours(np.array([[2, 1], [0, -1], [0, -1]]), np.array([[2, 1], [1, 0], [2, 0]], dtype=np.float32))


def build_with(behaviour: str = "as_published", d: int = 4, users: Neighbours = USERS, **changes) -> Dualgnn:
    settings = dataclasses.replace(SETTINGS["dualgnn"], **changes)
    generator = torch.Generator().manual_seed(0)
    return Dualgnn(TOY, toy_features(), Graphs(users=users), settings, d=d, generator=generator, behaviour=behaviour)


def affine(layer: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
    return x @ layer.weight.T + layer.bias


def slow_modalities(model: Dualgnn, n_layers: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Image's and text's sums over the layers, each by itself on a dense matrix of eight nodes."""
    adjacency = torch.zeros(8, 8)
    adjacency[TOY.users, TOY.items + 3] = torch.tensor([2.0, 4, 2, 2, 2]).rsqrt()  # degrees 2·1, 2·2, 1·2, 2·1, 2·1
    adjacency += adjacency.T.clone()
    image, text = (torch.tensor(rows) for rows in (toy_features().image, toy_features().text))
    if model.text.mlp is not None:
        text = leaky_relu(affine(model.text.mlp, text))
    sums = []
    for preferences, rows, (first, _, second) in (
        (model.image_preferences, image, model.image_projection),
        (model.text_preferences, text, model.text_projection),
    ):
        x = normalize(torch.cat([preferences, affine(second, leaky_relu(affine(first, rows)))]))
        layers = [x]
        for _ in range(n_layers):
            layers.append(adjacency @ layers[-1])
        sums.append(sum(layers))
    return sums[0], sums[1]


def slow_embed(model: Dualgnn, hop: torch.Tensor, n_layers: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """By the authors' code; hop (3, 3) holds how much a user takes of every other."""
    image, text = slow_modalities(model, n_layers)
    mixed = torch.stack([w[0] * image[u] + w[1] * text[u] for u, w in enumerate(model.user_weights)])
    return mixed + hop @ mixed, (image + text)[3:]


def ranking_loss(users: torch.Tensor, items: torch.Tensor, log=torch.log) -> torch.Tensor:
    margins = [users[u] @ (items[p] - items[n]) for u, p, n in zip(*BATCH, strict=True)]
    return -torch.stack([log(margin.sigmoid()) for margin in margins]).mean()


def mean_squares(model: Dualgnn) -> torch.Tensor:
    preferences = (model.image_preferences[BATCH.users], model.text_preferences[BATCH.users])
    return sum((part**2).mean() for part in (*preferences, model.user_weights, model.item_weights))


def published_hop() -> torch.Tensor:
    """Softmax over the neighbours of USERS that are there: counts 2 and 1; one alone; one alone."""
    near, far = math.exp(2) / (math.exp(2) + math.exp(1)), math.exp(1) / (math.exp(2) + math.exp(1))
    return torch.tensor([[0, far, near], [1, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize("mlp_width", [None, 3])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_embeddings_loss_and_gradients_equal_those_of_the_dense_twin(n_layers, mlp_width):
    settings = dataclasses.replace(SETTINGS["dualgnn"], n_layers=n_layers)
    features = toy_features()._replace(mlp_width=mlp_width)
    generator = torch.Generator().manual_seed(0)
    graphs = Graphs(users=USERS)
    model = Dualgnn(TOY, features, graphs, settings, d=4, generator=generator, behaviour="as_published")
    twin = slow_embed(model, published_hop(), n_layers)
    torch.testing.assert_close(model.embed(), twin)
    loss, expected = model.loss(BATCH), ranking_loss(*twin) + 0.1 * mean_squares(model)
    torch.testing.assert_close(loss, expected)
    parameters = list(model.parameters())
    gradients = [torch.autograd.grad(of, parameters) for of in (loss, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_as_published_d_and_n_layers_count_and_as_mmrec_they_do_not():
    assert build_with(d=6).embed()[0].shape == (3, 6)
    models = [build_with("as_mmrec", d=d, n_layers=n_layers) for d, n_layers in ((4, 1), (6, 3))]
    assert models[0].embed()[0].shape == (3, 64)
    assert all(map(torch.equal, models[0].embed(), models[1].embed()))
    image, text = slow_modalities(models[0], 2)
    torch.testing.assert_close(models[0].embed()[1], (image + text)[3:])


def test_as_mmrec_users_get_the_text_twice():
    # The toolbox adds the text to the image in place before it mixes them: w₁ (image + text) + w₂ text.
    model = build_with("as_mmrec")
    image, text = (part[:3] for part in slow_modalities(model, 2))
    weights = model.user_weights
    mixed = weights[:, :1] * (image + text) + weights[:, 1:] * text
    torch.testing.assert_close(model.embed()[0], mixed + published_hop() @ mixed)


def test_as_mmrec_the_logarithm_is_to_the_base_of_two():
    model = build_with("as_mmrec")
    expected = ranking_loss(*model.embed(), torch.log2) + 0.1 * mean_squares(model)
    torch.testing.assert_close(model.loss(BATCH), expected)


@pytest.mark.parametrize("change", [{"n_layers": 1}, {"hidden_width": 6}, {"n_neighbours": 1}, {"reg_weight": 0.2}])
def test_every_setting_changes_the_loss(change):
    assert abs(build_with(**change).loss(BATCH) - build_with().loss(BATCH)) > 1e-4


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_a_user_who_shares_no_item_stays_without_neighbours(behaviour):
    nearest, shared = USERS.nearest.copy(), USERS.closeness.copy()
    nearest[1], shared[1] = -1, 0
    model = build_with(behaviour, users=Neighbours(nearest, shared), n_neighbours=3)
    model.start_epoch(np.random.default_rng(0))
    hop = model.neighbours(torch.eye(3))
    assert not hop[1].any()
    torch.testing.assert_close(hop.sum(dim=1), torch.tensor([1.0, 0, 1]))
    assert model.loss(BATCH).isfinite()


def test_as_published_neighbours_are_those_there_are_in_every_epoch():
    model = build_with(n_neighbours=5)
    for _ in range(2):
        torch.testing.assert_close(model.neighbours(torch.eye(3)), published_hop())
        model.start_epoch(np.random.default_rng(0))


def test_as_mmrec_neighbours_are_repeated_at_random_and_anew_each_epoch():
    model, generator = build_with("as_mmrec", n_neighbours=5), np.random.default_rng(0)
    hops = []
    for _ in range(20):
        model.start_epoch(generator)
        hops.append(model.neighbours(torch.eye(3)))
    # Users 1 and 2 have one neighbour, whose repeats share the weight; user 0 has two, of counts 2 and 1.
    assert all(torch.allclose(hop[1:], published_hop()[1:]) for hop in hops)
    possible = [n * math.exp(2) / (n * math.exp(2) + (5 - n) * math.exp(1)) for n in (1, 2, 3, 4)]
    drawn = {min(possible, key=lambda share: abs(share - hop[0, 2].item())) for hop in hops}
    assert len(drawn) > 1
    assert all(min(abs(share - hop[0, 2].item()) for share in possible) < 1e-6 for hop in hops)
    torch.testing.assert_close(torch.stack(hops).sum(dim=2), torch.ones(20, 3))


def test_repeats_are_drawn_from_the_list_as_it_grows():
    # Of two neighbours, the third place takes either with 1/2, the fourth either of three: P(a, b, a, a) = 1/2 · 2/3.
    known = Neighbours(np.tile([[7, 8]], (30_000, 1)), np.tile(np.array([[3, 1]], dtype=np.float32), (30_000, 1)))
    padded = repeat_neighbours(known, 4, np.random.default_rng(0))
    assert (padded.nearest[:, :2] == [7, 8]).all()
    assert (padded.closeness == np.where(padded.nearest == 7, 3, 1)).all()
    assert (padded.nearest[:, 2:] == 7).all(axis=1).mean() == pytest.approx(1 / 3, abs=0.01)


def test_the_first_neighbours_are_kept_when_there_are_more():
    model = build_with(n_neighbours=1)
    torch.testing.assert_close(model.neighbours(torch.eye(3)), torch.tensor([[0.0, 0, 1], [1, 0, 0], [1, 0, 0]]))


def test_neighbours_of_a_batch_are_rows_of_those_of_all():
    neighbours = WeightedNeighbours(USERS)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(neighbours(x, torch.tensor([2, 0, 2])), neighbours(x)[[2, 0, 2]])


def test_the_mlp_of_the_fusion_is_trained_and_changes_the_loss():
    model = build("dualgnn", mlp_width=3)
    before = model.loss(BATCH)
    before.backward()
    assert model.text.mlp.weight.grad.abs().sum() > 0 and model.text.mlp.bias.grad.abs().sum() > 0
    with torch.no_grad():
        model.text.mlp.weight.neg_()
    assert abs(model.loss(BATCH) - before) > 1e-4


def test_weights_of_modalities_start_positive_and_add_up_to_one():
    model = build("dualgnn")
    for weights in (model.user_weights, model.item_weights):
        assert (weights > 0).all()
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(len(weights)))


def test_preferences_of_the_batch_are_decayed():
    model = build("dualgnn")
    image, text = model.decayed(BATCH)
    assert torch.equal(image, model.image_preferences[[0, 2, 1]])
    assert torch.equal(text, model.text_preferences[[0, 2, 1]])


def test_as_mmrec_ranks_what_the_last_training_forward_computed():
    model, published = (build("dualgnn", behaviour=behaviour) for behaviour in BEHAVIOURS[::-1])
    for trained in (model, published):
        optimiser = torch.optim.SGD(trained.parameters(), lr=1.0)
        untrained = trained.embed()
        trained.loss(BATCH).backward()
        optimiser.step()
        assert torch.allclose(trained.embed()[0], untrained[0], rtol=0.01) == (trained is model)


def test_as_mmrec_the_state_brings_the_last_forward_back():
    model, other = (build("dualgnn", seed=seed, behaviour="as_mmrec") for seed in (0, 1))
    model.start_epoch(np.random.default_rng(0))
    model.loss(BATCH)
    with torch.no_grad():
        model.image_preferences.zero_()
    other.load_state_dict(model.state_dict())
    assert all(map(torch.equal, other.embed(), model.embed()))
    model.last.is_kept.fill_(value=False)
    assert not torch.allclose(model.embed()[0], other.embed()[0])


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_constants_and_graphs_follow_the_model_when_it_is_moved(behaviour):
    # float64 stands in for a device: products of both kinds of numbers are refused as those of two devices are.
    model = build("dualgnn", behaviour=behaviour)
    model.start_epoch(np.random.default_rng(0))
    before = model.loss(BATCH)
    torch.testing.assert_close(model.double().loss(BATCH), before.double(), rtol=1e-5, atol=1e-6)
    assert model.embed()[0].dtype == torch.float64


def ours(theirs: str) -> str | None:
    """The toolbox's name of a parameter, as here; None for those that nothing uses."""
    if theirs.startswith(("MLP_v.", "MLP_t.", "MLP_user.")):
        return None
    if theirs.startswith("weight_"):
        return {"u": "user_weights", "i": "item_weights"}[theirs[-1]]
    modality, _, rest = theirs.replace("_gcn.", "_").partition("_")
    parameter = rest.replace("MLP_1.", "projection.2.").replace("MLP.", "projection.0.")
    return {"v": "image_", "t": "text_"}[modality] + parameter.replace("preference", "preferences")


def golden_tensors(golden, prefix):
    """The toolbox's tensors by our names."""
    names = [name for name in golden if name.startswith(f"{prefix}::") and ours(name.partition("::")[2])]
    found = {ours(name.partition("::")[2]): torch.tensor(golden[name]) for name in names}
    return {name: rows.squeeze(2) if name.endswith("_weights") else rows for name, rows in found.items()}


def golden_dualgnn(golden, inputs):
    settings = ast.literal_eval(str(golden["settings"]))
    none = np.zeros(30, dtype=bool)
    features = ItemFeatures(inputs["image_feat"], inputs["text_feat"], none, none)
    train = Interactions(inputs["train_user"], inputs["train_item"], int(inputs["n_users"]), int(inputs["n_items"]))
    section = config.Dualgnn(2, hidden_width=256, n_neighbours=40, reg_weight=settings["reg_weight"])
    graphs = graphs_of(train, None)
    model = Dualgnn(train, features, graphs, section, d=8, generator=torch.Generator(), behaviour="as_mmrec")
    initial = golden_tensors(golden, "param")
    assert set(initial) == {name for name, _ in model.named_parameters()}
    model.load_state_dict(initial, strict=False)
    model.neighbours.nearest = torch.tensor(golden["const::epoch_user_graph"])
    model.neighbours.weights = torch.tensor(golden["const::user_weight_matrix"])
    return model, settings


def assert_parameters_equal(model, expected, *, of, **tolerance):
    assert set(expected) == {name for name, _ in model.named_parameters()}
    for name, tensor in expected.items():
        torch.testing.assert_close(of(model.get_parameter(name)), tensor, **tolerance)


@pytest.mark.skipif(not GOLDEN.exists(), reason="needs ../shared/golden")
@pytest.mark.parametrize(("case", "after"), [("plain", 5e-4), ("weight_decay", 5e-5)])
def test_dualgnn_equals_the_toolbox_golden(case, after):
    golden, inputs = np.load(GOLDEN / f"dualgnn/{case}.npz"), np.load(GOLDEN / "inputs.npz")
    model, settings = golden_dualgnn(golden, inputs)
    close = {"rtol": 1e-4, "atol": 1e-6}  # tolerances of golden/README.md
    users, items = model.embed()
    torch.testing.assert_close(torch.cat([users, items]), torch.tensor(golden["repr_init"]), **close)
    torch.testing.assert_close(users @ items.T, torch.tensor(golden["scores_init"]), **close)

    optimiser = torch.optim.Adam(
        model.parameters(), lr=settings["learning_rate"], weight_decay=settings["weight_decay"], fused=True
    )
    for step, batch in enumerate(torch.tensor(inputs["batches"])):
        optimiser.zero_grad()
        loss = model.loss(Triples(*batch))
        assert loss.item() == pytest.approx(golden[f"loss_step{step}"].item(), rel=1e-4, abs=1e-6)
        loss.backward()
        if step == 0:
            assert loss.item() == pytest.approx(golden["loss_init"].item(), rel=1e-4, abs=1e-6)
            assert_parameters_equal(model, golden_tensors(golden, "grad"), of=lambda parameter: parameter.grad, **close)
        optimiser.step()
        if step == 0:
            assert_parameters_equal(
                model, golden_tensors(golden, "after1"), of=lambda parameter: parameter, rtol=0, atol=after
            )
    assert_parameters_equal(model, golden_tensors(golden, "after3"), of=lambda parameter: parameter, rtol=0, atol=after)
    users, items = model.embed()  # as the toolbox: those of the third forward, before the third step
    torch.testing.assert_close(users @ items.T, torch.tensor(golden["scores_after3"]), **close)


@pytest.mark.skipif(not GOLDEN.exists(), reason="needs ../shared/golden")
def test_repeated_neighbours_and_their_weights_equal_the_toolbox_golden():
    golden, inputs = np.load(GOLDEN / "dualgnn/plain.npz"), np.load(GOLDEN / "inputs.npz")
    model, _ = golden_dualgnn(golden, inputs)
    known, shared, theirs = inputs["user_graph_ids"], inputs["user_graph_counts"], golden["const::epoch_user_graph"]
    assert np.array_equal(model.known.nearest, known)
    padded = repeat_neighbours(model.known, 40, np.random.default_rng(0))
    count_of = [dict(zip(ids, counts, strict=True)) for ids, counts in zip(known, shared, strict=True)]
    for user, n in enumerate((known >= 0).sum(axis=1)):
        for row in (padded.nearest[user], theirs[user]):
            assert np.array_equal(row[:n], known[user, :n]) and set(row) == set(known[user, :n])
    counts = np.array([[count_of[user][neighbour] for neighbour in row] for user, row in enumerate(theirs)])
    weights = WeightedNeighbours(Neighbours(theirs, counts.astype(np.float32))).weights
    torch.testing.assert_close(weights, torch.tensor(golden["const::user_weight_matrix"]), rtol=1e-5, atol=1e-7)
