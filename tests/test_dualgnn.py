"""DualGNN."""

import math

import numpy as np
import pytest
import torch
import toy
from golden import CLOSE, build_golden, copy_golden, follow_golden, needs_golden, read_golden
from torch.nn.functional import leaky_relu, normalize
from toy_backbones import BATCH, BEHAVIOURS, TOY, build, toy_features

from cliper.models.backbones.dualgnn import Dualgnn, WeightedNeighbours, repeat_neighbours
from cliper.models.maths.tables import Neighbours

# Users 0 and 1 share one item; user 0 shares two with user 2 by a made-up count, so that weights differ.
USERS = Neighbours(np.array([[2, 1], [0, -1], [0, -1]]), np.array([[2, 1], [1, 0], [2, 0]], dtype=np.float32))


def build_dualgnn(behaviour: str = "as_published", *, users: Neighbours = USERS, **options) -> Dualgnn:
    return build("dualgnn", behaviour=behaviour, users=users, **options)


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
    model = build_dualgnn(features=toy_features(mlp_width=mlp_width), n_layers=n_layers)
    twin = slow_embed(model, published_hop(), n_layers)
    torch.testing.assert_close(model.embed(), twin)
    loss, expected = model.loss(BATCH), ranking_loss(*twin) + 0.1 * mean_squares(model)
    torch.testing.assert_close(loss, expected)
    parameters = list(model.parameters())
    gradients = [torch.autograd.grad(of, parameters) for of in (loss, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_as_published_d_and_n_layers_count_and_as_mmrec_they_do_not():
    assert build_dualgnn(d=6).embed()[0].shape == (3, 6)
    models = [build_dualgnn("as_mmrec", d=d, n_layers=n_layers) for d, n_layers in ((4, 1), (6, 3))]
    assert models[0].embed()[0].shape == (3, 64)
    assert all(map(torch.equal, models[0].embed(), models[1].embed()))
    image, text = slow_modalities(models[0], 2)
    torch.testing.assert_close(models[0].embed()[1], (image + text)[3:])


@pytest.mark.parametrize(
    ("behaviour", "hidden_width", "expected"),
    [("as_published", None, 24), ("as_published", 5, 5), ("as_mmrec", None, 256), ("as_mmrec", 5, 256)],
)
def test_the_hidden_width_is_four_times_that_of_the_embeddings(behaviour, hidden_width, expected):
    model = build_dualgnn(behaviour, d=6, hidden_width=hidden_width)
    assert model.image_projection[0].out_features == model.text_projection[0].out_features == expected


def test_the_shipped_hidden_width_is_the_authors_at_every_d():
    assert toy.shipped()["backbones"]["dualgnn"]["hidden_width"] is None


def test_as_mmrec_users_get_the_text_twice():
    # The toolbox adds the text to the image in place before it mixes them: w₁ (image + text) + w₂ text.
    model = build_dualgnn("as_mmrec")
    image, text = (part[:3] for part in slow_modalities(model, 2))
    weights = model.user_weights
    mixed = weights[:, :1] * (image + text) + weights[:, 1:] * text
    torch.testing.assert_close(model.embed()[0], mixed + published_hop() @ mixed)


def test_as_mmrec_the_logarithm_is_to_the_base_of_two():
    model = build_dualgnn("as_mmrec")
    expected = ranking_loss(*model.embed(), torch.log2) + 0.1 * mean_squares(model)
    torch.testing.assert_close(model.loss(BATCH), expected)


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_a_user_who_shares_no_item_stays_without_neighbours(behaviour):
    nearest, shared = USERS.nearest.copy(), USERS.closeness.copy()
    nearest[1], shared[1] = -1, 0
    model = build_dualgnn(behaviour, users=Neighbours(nearest, shared), n_neighbours=3)
    model.start_epoch(np.random.default_rng(0))
    hop = model.neighbours(torch.eye(3))
    assert not hop[1].any()
    torch.testing.assert_close(hop.sum(dim=1), torch.tensor([1.0, 0, 1]))
    assert model.loss(BATCH).isfinite()


def test_as_published_neighbours_are_those_there_are_in_every_epoch():
    model = build_dualgnn(n_neighbours=5)
    for _ in range(2):
        torch.testing.assert_close(model.neighbours(torch.eye(3)), published_hop())
        model.start_epoch(np.random.default_rng(0))


def test_as_mmrec_neighbours_are_repeated_at_random_in_each_epoch():
    model, generator = build_dualgnn("as_mmrec", n_neighbours=5), np.random.default_rng(0)
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
    model = build_dualgnn(n_neighbours=1)
    torch.testing.assert_close(model.neighbours(torch.eye(3)), torch.tensor([[0.0, 0, 1], [1, 0, 0], [1, 0, 0]]))


def test_neighbours_of_a_batch_are_rows_of_those_of_all():
    neighbours = WeightedNeighbours(USERS)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(neighbours(x, torch.tensor([2, 0, 2])), neighbours(x)[[2, 0, 2]])


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


def ours(theirs: str) -> str | None:
    """The toolbox's name of a parameter, as here; None for those that nothing uses."""
    if theirs.startswith(("MLP_v.", "MLP_t.", "MLP_user.")):
        return None
    if theirs.startswith("weight_"):
        return {"u": "user_weights", "i": "item_weights"}[theirs[-1]]
    modality, _, rest = theirs.replace("_gcn.", "_").partition("_")
    parameter = rest.replace("MLP_1.", "projection.2.").replace("MLP.", "projection.0.")
    return {"v": "image_", "t": "text_"}[modality] + parameter.replace("preference", "preferences")


def names_of(golden, prefix):
    """Parameters, as in the toolbox -> as here; there some have another name before training."""
    theirs = [name.split("::")[1] for name in golden if name.startswith(f"{prefix}::")]
    return {name: ours(name) for name in theirs if ours(name)}


def golden_dualgnn(case):
    golden, inputs, settings = read_golden(f"dualgnn/{case}")
    model = build_golden(
        "dualgnn", inputs, n_layers=2, hidden_width=None, n_neighbours=40, reg_weight=settings["reg_weight"]
    )
    copy_golden(model, golden, names_of(golden, "param"))
    model.neighbours.nearest = torch.tensor(golden["const::epoch_user_graph"])
    model.neighbours.weights = torch.tensor(golden["const::user_weight_matrix"])
    return model, golden, inputs, settings


@needs_golden
@pytest.mark.parametrize(("case", "after"), [("plain", 5e-4), ("weight_decay", 5e-5)])
def test_dualgnn_equals_the_toolbox_golden(case, after):
    model, golden, inputs, settings = golden_dualgnn(case)
    users, items = model.embed()
    torch.testing.assert_close(torch.cat([users, items]), torch.tensor(golden["repr_init"]), **CLOSE)
    torch.testing.assert_close(users @ items.T, torch.tensor(golden["scores_init"]), **CLOSE)
    names = names_of(golden, "grad")
    assert set(names.values()) == {name for name, _ in model.named_parameters()}
    follow_golden(model, golden, inputs, settings, names, atol=after)
    users, items = model.embed()  # as the toolbox: those of the third forward, before the third step
    torch.testing.assert_close(users @ items.T, torch.tensor(golden["scores_after3"]), **CLOSE)


@needs_golden
def test_repeated_neighbours_and_their_weights_equal_the_toolbox_golden():
    model, golden, inputs, *_ = golden_dualgnn("plain")
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
