"""SLMRec."""

import numpy as np
import pytest
import torch
from golden import CLOSE, build_golden, copy_golden, follow_golden, needs_golden, read_golden
from torch.nn.functional import leaky_relu
from toy_backbones import BATCH, TOY, build, toy_features

from cliper.models.backbones.base import Triples
from cliper.models.backbones.slmrec import Slmrec, unit_rows
from cliper.models.maths.ranking import rank_items


def slow_cross_entropy(rows: torch.Tensor, matches: torch.Tensor, temperature: float) -> torch.Tensor:
    losses = []
    for b, row in enumerate(rows):
        weights = torch.stack([(row @ match / temperature).exp() for match in matches])
        losses.append(-(weights[b] / weights.sum()).log())
    return torch.stack(losses).mean()


def unit(rows: torch.Tensor) -> torch.Tensor:
    return rows / rows.pow(2).sum(1, keepdim=True).sqrt()


def slow_channels(model: Slmrec) -> list[torch.Tensor]:
    """Each channel by itself: LightGCN on a dense (8, 8) matrix from [users, items of the channel]."""
    adjacency = torch.zeros(8, 8)
    adjacency[TOY.users, TOY.items + 3] = torch.tensor([2.0, 4, 2, 2, 2]).rsqrt()  # degrees 2·1, 2·2, 1·2, 2·1, 2·1
    adjacency += adjacency.T.clone()
    image, text = (torch.tensor(rows) for rows in (toy_features().image, toy_features().text))
    if model.text.mlp is not None:
        text = leaky_relu(text @ model.text.mlp.weight.T + model.text.mlp.bias)
    starts = (
        model.items,
        unit(image) @ model.image_projection.weight.T + model.image_projection.bias,
        unit(text) @ model.text_projection.weight.T + model.text_projection.bias,
    )
    layers = [torch.cat([model.users, start]) for start in starts]
    sums = list(layers)
    for _ in range(model.settings.n_layers):
        layers = [adjacency @ layer for layer in layers]
        sums = [total + layer for total, layer in zip(sums, layers, strict=True)]
    return [total / (model.settings.n_layers + 1) for total in sums]


def slow_embed(model: Slmrec) -> tuple[torch.Tensor, torch.Tensor]:
    channels = torch.cat(slow_channels(model), dim=1)
    users = channels[:3] @ model.fuse_users.weight.T + model.fuse_users.bias
    return users, channels[3:] @ model.fuse_items.weight.T + model.fuse_items.bias


def slow_loss(model: Slmrec) -> torch.Tensor:
    users, items = slow_embed(model)
    settings, u, p = model.settings, BATCH.users, BATCH.positives
    ids, image, text = (channel[3:][p] for channel in slow_channels(model))
    by_id = model.id_head(ids)
    ssl = slow_cross_entropy(by_id, model.image_head(image), settings.ssl_temperature) + slow_cross_entropy(
        model.coarse_head(model.fine_head(by_id)), model.text_head(text), settings.ssl_temperature
    )
    return slow_cross_entropy(unit(users[u]), unit(items[p]), settings.temperature) + settings.ssl_weight * ssl


@pytest.mark.parametrize("n_layers", [1, 2, 3, 4])
def test_one_shared_chain_of_users_equals_a_propagation_for_each_channel(n_layers):
    model = build("slmrec", n_layers=n_layers)
    torch.testing.assert_close(model.embed(), slow_embed(model))
    torch.testing.assert_close(model.loss(BATCH), slow_loss(model))


@pytest.mark.parametrize("scale", [1e-36, 1e-20, 1, 1e20, 1e37])
def test_features_of_any_length_get_length_1(scale):
    rows = np.array([[3, 4], [0, 0], [-4, 3]], dtype=np.float32) * np.float32(scale)
    np.testing.assert_allclose(unit_rows(rows), [[0.6, 0.8], [0, 0], [-0.8, 0.6]], rtol=1e-5)


def test_the_mlp_of_the_fusion_comes_before_the_unit_length():
    model = build("slmrec", features=toy_features(mlp_width=3))
    torch.testing.assert_close(model.loss(BATCH), slow_loss(model))


def test_sampled_negatives_play_no_part_and_are_not_decayed():
    model = build("slmrec")
    other = BATCH._replace(negatives=torch.tensor([4, 4, 4]))
    assert torch.equal(model.loss(BATCH), model.loss(other))
    users, items = model.decayed(BATCH)
    assert torch.equal(users, model.users[[0, 2, 1]]) and torch.equal(items, model.items[[1, 3, 1]])


def test_an_item_without_features_has_zeros():
    features = toy_features()
    features.image[2] = 0
    assert not build("slmrec", features=features).image()[2].any()


@pytest.mark.parametrize(("behaviour", "best"), [("as_published", [2, 1, 0]), ("as_mmrec", [1, 2, 0])])
def test_as_mmrec_the_sigmoid_ties_high_scores(behaviour, best):
    # 1 / (1 + e^-18) and 1 / (1 + e^-19) are both 1 in float32; a tie goes to the lower index.
    model = build("slmrec", behaviour=behaviour)
    users, items, none = torch.tensor([[1.0]]), torch.tensor([[1.0], [18.0], [19.0]]), np.array([], dtype=np.int64)
    ranking = rank_items(users, items, train_users=none, train_items=none, k=3, score=model.score)
    assert ranking.items.tolist() == [best]


def test_as_mmrec_has_a_head_that_nothing_uses_and_else_starts_alike():
    published, toolbox = build("slmrec"), build("slmrec", behaviour="as_mmrec")
    parameters = dict(toolbox.named_parameters())
    assert parameters.keys() - dict(published.named_parameters()) == {"unused_head.weight", "unused_head.bias"}
    assert all(torch.equal(value, parameters[name]) for name, value in published.named_parameters())
    assert torch.equal(published.loss(BATCH), toolbox.loss(BATCH))
    toolbox.loss(BATCH).backward()
    assert toolbox.unused_head.weight.grad is None


NAMES = {  # as in the toolbox -> as here
    "embedding_user.weight": "users",
    "embedding_item.weight": "items",
} | {
    f"{theirs}.{part}": f"{ours}.{part}"
    for theirs, ours in {
        "v_dense": "image_projection",
        "t_dense": "text_projection",
        "embedding_user_after_GCN": "fuse_users",
        "embedding_item_after_GCN": "fuse_items",
        "g_i_iv": "id_head",
        "g_v_iv": "image_head",
        "g_iv_iva": "fine_head",
        "g_iva_ivat": "coarse_head",
        "g_t_ivat": "text_head",
        "g_a_iva": "unused_head",
    }.items()
    for part in ("weight", "bias")
}
NOISE = {"image_head.bias", "text_head.bias"}  # their true gradient is 0: Adam makes steps of rounding noise


def golden_slmrec(case, behaviour):
    golden, inputs, theirs = read_golden(f"slmrec/{case}")
    model = build_golden(
        "slmrec",
        inputs,
        d=theirs["recdim"],
        behaviour=behaviour,
        n_layers=theirs["layer_num"],
        temperature=theirs["temp"],
        ssl_temperature=theirs["ssl_temp"],
        ssl_weight=theirs["ssl_alpha"],
    )
    parameters = dict(model.named_parameters())
    copy_golden(model, golden, {name: ours for name, ours in NAMES.items() if ours in parameters})
    return model, golden, inputs, theirs


@needs_golden
@pytest.mark.parametrize("case", ["plain", "weight_decay", "two_layer"])
def test_slmrec_equals_the_toolbox_golden(case):
    model, golden, inputs, settings = golden_slmrec(case, "as_mmrec")
    torch.testing.assert_close(torch.cat(model.embed()), torch.tensor(golden["repr_init"]), **CLOSE)
    torch.testing.assert_close(model.score(*model.embed()), torch.tensor(golden["scores_init"]), **CLOSE)
    follow_golden(
        model, golden, inputs, settings, {theirs: ours for theirs, ours in NAMES.items() if ours not in NOISE}
    )
    after_3 = torch.tensor(golden["scores_after3"])
    torch.testing.assert_close(model.score(*model.embed()), after_3, rtol=1e-4, atol=5e-5)


@needs_golden
def test_slmrec_as_published_differs_from_the_toolbox_golden_in_the_ranking_alone():
    model, golden, inputs, settings = golden_slmrec("plain", "as_published")
    optimiser = torch.optim.Adam(
        model.parameters(), lr=settings["learning_rate"], weight_decay=settings["weight_decay"], fused=True
    )
    logits = torch.tensor(golden["logits_init"])
    torch.testing.assert_close(model.score(*model.embed()), logits, rtol=1e-4, atol=1e-6)
    after_3 = torch.tensor(golden["scores_after3"])
    for step, batch in enumerate(torch.tensor(inputs["batches"])):
        if step == 2:  # the toolbox's last forward has the parameters after two steps
            two_steps = model.score(*model.embed()).sigmoid()
            torch.testing.assert_close(two_steps, after_3, rtol=1e-4, atol=5e-5)
        optimiser.zero_grad()
        loss = model.loss(Triples(*batch))
        assert loss.item() == pytest.approx(golden[f"loss_step{step}"].item(), rel=1e-4, abs=1e-6)
        loss.backward()
        optimiser.step()
    assert not torch.allclose(model.score(*model.embed()).sigmoid(), after_3, rtol=1e-3, atol=1e-3)
