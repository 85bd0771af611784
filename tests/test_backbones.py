"""What holds for every backbone, a new one too: parametrised by the dict of backbones."""

import numpy as np
import pytest
import torch
import toy
from torch.utils._python_dispatch import TorchDispatchMode
from toy_backbones import BATCH, BEHAVIOURS, TOY, build, give, settings_of, toy_features

from cliper.errors import ConfigError
from cliper.models.backbones import BACKBONES
from cliper.models.backbones.base import Interactions, LastForward, Triples
from cliper.models.maths.nearest import nearest_rows
from cliper.models.maths.ranking import rank_items
from cliper.variants import load_class

NAMES = list(BACKBONES.rows)
OF_FEATURES = [name for name in NAMES if BACKBONES.rows[name].settings.uses_features]
CONTENT_FREE = [name for name in NAMES if name not in OF_FEATURES]
OF_ITEM_GRAPH = [name for name in NAMES if BACKBONES.rows[name].settings.uses_item_graph]
BY_LAST_FORWARD = [
    name for name in NAMES if any(isinstance(part, LastForward) for part in build(name, behaviour="as_mmrec").modules())
]
# Twelve users with four of twenty items each: every user has neighbours, and there is room for a larger k.
MANY = Interactions(
    np.repeat(np.arange(12), 4),
    np.concatenate([np.random.default_rng(user).permutation(20)[:4] for user in range(12)]),
    n_users=12,
    n_items=20,
)


def train(model, n_epochs=3, lr=0.01):
    """Take a step an epoch, for LATTICE learns its graph in the first one only. Returns the losses."""
    edges, losses = np.random.default_rng(0), []
    optimiser = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    for _ in range(n_epochs):
        model.start_epoch(edges)
        optimiser.zero_grad()
        loss = model.loss(BATCH)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", NAMES)
def test_settings_and_class_name_each_other(name):
    row = BACKBONES.rows[name]
    assert load_class(row.place).Settings is row.settings


def test_the_shipped_config_has_a_section_of_each_backbone():
    assert set(toy.settings().backbones) == set(NAMES)


def test_a_part_that_was_not_declared_names_the_attribute_to_set():
    given = give(BACKBONES.rows["bpr"].settings)
    for part, use in (
        ("features", "uses_features"),
        ("item_neighbours", "uses_item_graph"),
        ("user_neighbours", "uses_user_graph"),
    ):
        with pytest.raises(ConfigError, match=f"reads {part} that it was not given; set {use} = True"):
            getattr(given, part)


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("name", NAMES)
def test_embeddings_have_one_row_a_user_and_item_and_repeat(name, behaviour):
    model = build(name, behaviour=behaviour)
    users, items = model.embed()
    assert (len(users), len(items)) == (3, 5) and users.shape[1] == items.shape[1]
    for again in (model, build(name, behaviour=behaviour)):
        assert all(map(torch.equal, again.embed(), (users, items)))
    assert not torch.equal(build(name, behaviour=behaviour, seed=1).embed()[0], users)


@pytest.mark.parametrize("name", NAMES)
def test_as_published_embeddings_get_wider_with_d(name):
    narrow, wide = (build(name, d=d).embed()[0].shape[1] for d in (4, 8))
    assert wide == 2 * narrow


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name):
    model = build(name)
    model.start_epoch(np.random.default_rng(0))
    model.loss(BATCH).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.shape == parameter.shape, parameter_name
        # A bias of FREEDOM's projections is in the positive's and the negative's row: the margin loses it.
        assert parameter.grad.any() or parameter_name.endswith("bias"), parameter_name


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("name", NAMES)
def test_training_lowers_the_loss_and_repeats(name, behaviour):
    losses = train(build(name, behaviour=behaviour), 20)
    assert losses[-1] < 0.8 * losses[0]
    assert train(build(name, behaviour=behaviour), 20) == losses


def changed(value):
    return value + 1 if isinstance(value, int) else value / 2 or 0.1


@pytest.mark.parametrize(
    ("name", "setting"),
    [(name, setting) for name, row in BACKBONES.rows.items() for setting in row.settings.model_fields],
)
def test_every_setting_changes_something(name, setting):
    outcomes = []
    for changes in ({}, {setting: changed(getattr(settings_of(name), setting))}):
        model = build(name, MANY, toy_features(20), **changes)
        model.start_epoch(np.random.default_rng(0))
        outcomes.append([model.loss(BATCH).item(), model.learning_rate_factor(50), *model.embed()[1][0].tolist()])
    assert outcomes[0] != pytest.approx(outcomes[1], rel=1e-5)


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("name", NAMES)
def test_the_state_carries_all_that_was_learned_and_no_graph(name, behaviour):
    model, other = (build(name, seed=seed, behaviour=behaviour) for seed in (0, 1))
    for trained in (model, other):
        train(trained)
    other.load_state_dict(model.state_dict())
    assert all(map(torch.equal, other.embed(), model.embed()))
    if behaviour == "as_published":
        assert set(model.state_dict()) == {parameter for parameter, _ in model.named_parameters()}


@pytest.mark.parametrize("name", NAMES)
def test_building_a_backbone_leaves_the_global_generator_alone(name):
    before = torch.random.get_rng_state()
    build(name)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("name", NAMES)
def test_constants_and_graphs_follow_the_model_when_it_is_moved(name, behaviour):
    # float64 instead of a device: torch refuses products of two dtypes as it refuses those of two devices.
    model = build(name, behaviour=behaviour)
    model.start_epoch(np.random.default_rng(0))
    before = model.loss(BATCH)
    torch.testing.assert_close(model.double().loss(BATCH), before.double(), rtol=1e-5, atol=1e-6)
    assert model.embed()[0].dtype == torch.float64


@pytest.mark.parametrize("name", CONTENT_FREE)
def test_content_free_backbones_ignore_features_and_graphs(name):
    everything = give(BACKBONES.rows["freedom"].settings)
    model = load_class(BACKBONES.rows[name].place)(everything, settings_of(name))
    assert torch.equal(model.loss(BATCH), build(name).loss(BATCH))


@pytest.mark.parametrize("part", ["image", "text"])
@pytest.mark.parametrize("name", OF_FEATURES)
def test_features_of_both_modalities_change_the_loss(name, part):
    features = toy_features()
    getattr(features, part)[2] *= -1
    assert build(name, features=features).loss(BATCH).item() != pytest.approx(build(name).loss(BATCH).item(), rel=1e-5)


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("name", OF_FEATURES)
def test_the_mlp_of_the_fusion_is_trained_and_changes_the_loss(name, behaviour):
    model = build(name, features=toy_features(mlp_width=3), behaviour=behaviour)
    mlp = {part: parameter for part, parameter in model.named_parameters() if "mlp" in part.split(".")}
    assert {part.rpartition(".")[2]: len(parameter) for part, parameter in mlp.items()} == {"weight": 3, "bias": 3}
    model.start_epoch(np.random.default_rng(0))
    before = model.loss(BATCH)
    before.backward()
    assert all(parameter.grad.any() for parameter in mlp.values())
    with torch.no_grad():
        for parameter in mlp.values():
            parameter.neg_()
    model.start_epoch(np.random.default_rng(0))
    assert abs(model.loss(BATCH) - before) > 1e-5


@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize("name", OF_ITEM_GRAPH)
def test_filled_rows_stay_out_of_item_graphs(name, modality):
    # Both rank by embeddings that features reach through item graphs alone.
    embedded, is_filled = [], np.arange(5) == 2
    for factor in (1, -3):
        features = toy_features()._replace(**{f"{modality}_is_filled": is_filled})
        getattr(features, modality)[2] *= factor
        embedded.append(build(name, features=features).embed())
    assert all(map(torch.equal, *embedded))
    unfilled = build(name, features=features._replace(**{f"{modality}_is_filled": ~is_filled & False}))
    assert not torch.allclose(unfilled.embed()[1], embedded[0][1])


class Largest(TorchDispatchMode):
    """Notes the number of values of the largest tensor that any operation makes, also backwards."""

    n_values = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        made = result if isinstance(result, tuple | list) else [result]
        self.n_values = max([self.n_values, *(part.numel() for part in made if isinstance(part, torch.Tensor))])
        return result


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_as_large_as_items_by_items_or_users_by_users(name, behaviour, monkeypatch):
    n = 500  # of users and of items; DualGNN is 64 wide as_mmrec, so that 2 x 64 x 1000 is less than half of n x n
    monkeypatch.setattr("cliper.models.maths.nearest.BLOCK", 20 * n)
    pairs = np.arange(2 * n)
    interactions = Interactions(pairs % n, (pairs * 7 + pairs // n) % n, n_users=n, n_items=n)
    with Largest() as largest:
        model = build(name, interactions, toy_features(n), behaviour=behaviour)
        train(model, 2)
        model.embed()
    assert 4 * n <= largest.n_values < 0.6 * n * n


def test_a_dense_matrix_would_be_noticed():
    x = torch.randn(50, 3, requires_grad=True)
    with Largest() as largest:
        nearest_rows(x, 2)
    assert largest.n_values == 50 * 50
    with Largest() as largest:
        loss = torch.nn.functional.embedding(torch.arange(2), x).sum()
        assert largest.n_values < 50 * 3
        loss.backward()
    assert largest.n_values == 50 * 3


# User 3 has nothing in train, nobody bought item 4; item 1 is filled, item 2 has an image of zeros, item 3 a text.
BARE = Interactions(TOY.users, TOY.items, n_users=4, n_items=5)


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("name", NAMES)
def test_rows_of_zeros_users_without_train_items_and_unbought_items_leave_no_nan(name, behaviour):
    features = toy_features()
    features.image[2] = features.text[3] = 0
    wide = {setting: 20 for setting in ("k", "n_neighbours") if setting in BACKBONES.rows[name].settings.model_fields}
    model = build(name, BARE, features, behaviour=behaviour, n_found=20, **wide)  # more than there are items
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


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("parts", [("image",), ("text",), ("image", "text")], ids="-".join)
@pytest.mark.parametrize("name", OF_FEATURES)
def test_without_any_image_or_any_text_a_backbone_learns_all_the_same(name, parts, behaviour):
    """Controls text_only and image_only: a modality of zeros, all filled, whose item graph is empty."""
    features = toy_features()
    for part in parts:
        getattr(features, part)[:] = 0
        if behaviour == "as_published":  # as_mmrec no row counts as filled
            features = features._replace(**{f"{part}_is_filled": np.ones(5, dtype=bool)})
    model = build(name, features=features, behaviour=behaviour)
    losses = train(model, 20)
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    assert all(part.isfinite().all() for part in (*model.embed(), *model.parameters()))


@pytest.mark.parametrize("name", BY_LAST_FORWARD)
def test_as_mmrec_ranks_by_the_last_training_forward_and_as_published_by_the_parameters(name):
    for behaviour in BEHAVIOURS:
        model = build(name, behaviour=behaviour)
        untrained = model.embed()
        train(model, 1, lr=0.5)
        is_equal = [torch.allclose(*pair, rtol=1e-4) for pair in zip(model.embed(), untrained, strict=True)]
        assert is_equal == [behaviour == "as_mmrec"] * 2


@pytest.mark.parametrize("name", BY_LAST_FORWARD)
def test_as_mmrec_the_state_brings_the_last_forward_back(name):
    model, other, bare = (build(name, seed=seed, behaviour="as_mmrec") for seed in (0, 1, 1))
    model.loss(BATCH)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    other.load_state_dict(model.state_dict())
    assert all(map(torch.equal, other.embed(), model.embed()))
    bare.load_state_dict({key: value for key, value in model.state_dict().items() if "last" not in key}, strict=False)
    assert not torch.allclose(bare.embed()[0], model.embed()[0])
