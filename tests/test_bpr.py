"""BPR and VBPR."""

import numpy as np
import pytest
import torch
from torch.nn.functional import leaky_relu, logsigmoid
from toy_backbones import BATCH, BEHAVIOURS, TOY, build, toy_features

from cliper.models.backbones.base import Triples


def test_bpr_scores_by_the_dot_product_of_embeddings_that_nothing_propagates():
    model = build("bpr")
    users, items = model.embed()
    assert users is model.users and items is model.items
    torch.testing.assert_close(model.score(users, items)[2, 3], (model.users[2] * model.items[3]).sum())


def slow_vbpr_items(model, mlp=None) -> torch.Tensor:
    """Item by item: its own embedding, then Linear([text, image])."""
    features = toy_features()
    rows = []
    for i in range(5):
        text, image = torch.tensor(features.text[i]), torch.tensor(features.image[i])
        if mlp is not None:
            text = leaky_relu(mlp.weight @ text + mlp.bias)
        read = model.projection.weight @ torch.cat([text, image]) + model.projection.bias
        rows.append(torch.cat([model.items[i], read]))
    return torch.stack(rows)


@pytest.mark.parametrize("mlp_width", [None, 3])
def test_vbpr_appends_the_projected_features_to_each_items_own_half(mlp_width):
    model = build("vbpr", features=toy_features(mlp_width=mlp_width))
    users, items = model.embed()
    assert users is model.users
    torch.testing.assert_close(items, slow_vbpr_items(model, model.text.mlp))


def test_vbpr_loss_reads_every_item_as_the_embeddings_do():
    model = build("vbpr", features=toy_features(mlp_width=3))
    users, items = model.embed()
    u, p, n = BATCH
    torch.testing.assert_close(model.loss(BATCH), -logsigmoid((users[u] * (items[p] - items[n])).sum(1)).mean())


def test_vbpr_starts_without_a_bias_and_trains_no_feature():
    model = build("vbpr")
    assert not model.projection.bias.any()
    assert {name for name, _ in model.named_parameters()} == {
        "users",
        "items",
        "projection.weight",
        "projection.bias",
    }


@pytest.mark.parametrize("name", ["bpr", "lightgcn", "vbpr"])
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_as_mmrec_the_logarithm_has_a_floor(name, behaviour):
    # Three margins and their opposites: below -23, -log σ grows on and -log(1e-10 + σ) has stopped at 23.03.
    model = build(name, behaviour=behaviour)
    with torch.no_grad():
        model.users.mul_(1000)
    users, items = model.embed()
    batch = Triples(*(torch.cat(pair) for pair in zip(BATCH, (BATCH[0], BATCH[2], BATCH[1]), strict=True)))
    u, p, n = batch
    margins = (users[u] * (items[p] - items[n])).sum(1).double()
    assert margins.min() < -50
    published, floored = -logsigmoid(margins).mean(), -(1e-10 + margins.sigmoid()).log().mean()
    expected = {"as_published": published, "as_mmrec": floored}[behaviour]
    assert model.loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["bpr", "vbpr"])
def test_decay_pulls_at_the_rows_that_the_loss_multiplies(name):
    model = build(name)
    users, items = model.embed()
    u, p, n = BATCH
    for ours, expected in zip(model.decayed(BATCH), (users[u], items[p], items[n]), strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("name", ["bpr", "vbpr"])
def test_an_item_outside_train_keeps_its_embedding(name):
    model = build(name)
    model.loss(BATCH).backward()
    assert 4 not in TOY.items
    assert np.flatnonzero(model.items.grad.abs().sum(1)).tolist() == [1, 2, 3]
