"""MMGCN."""

import pytest
import torch
from golden import CLOSE, build_golden, copy_golden, follow_golden, needs_golden, read_golden
from torch.nn.functional import leaky_relu, normalize
from toy_backbones import BATCH, BEHAVIOURS, TOY, build, toy_features

from cliper.models.backbones.mmgcn import Mmgcn


def affine(layer: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
    return x @ layer.weight.T + layer.bias


def slow_embed(model: Mmgcn) -> tuple[torch.Tensor, torch.Tensor]:
    """All three users and five items as one matrix of eight nodes, weights before the mean, nothing remembered."""
    mean = torch.zeros(8, 8, dtype=model.ids.rows.dtype)
    mean[TOY.users, TOY.items + 3] = mean.new_tensor([1 / 2, 1 / 2, 1, 1 / 2, 1 / 2])  # users 0 and 2 have two items
    mean[TOY.items + 3, TOY.users] = mean.new_tensor([1, 1 / 2, 1 / 2, 1, 1])  # item 1 has two users, item 4 none
    text = mean.new_tensor(toy_features().text)
    if model.text.features.mlp is not None:
        text = leaky_relu(affine(model.text.features.mlp, text))
    image = affine(model.image.projection, mean.new_tensor(toy_features().image))
    outs = []
    for branch, rows in ((model.image, image), (model.text, text)):
        x = normalize(torch.cat([branch.preferences.rows, rows]))
        for layer in branch.layers:
            h = leaky_relu(mean @ (x @ layer.weight))
            kept = leaky_relu(affine(layer.linear, x)) + model.ids.rows
            x = leaky_relu(affine(layer.mix, torch.cat([h, kept], dim=1)))
        outs.append(x)
    out = (outs[0] + outs[1]) / 2
    return out[:3], out[3:]


def slow_ranking_loss(model: Mmgcn) -> torch.Tensor:
    users, items = slow_embed(model)
    margins = [users[u] @ (items[p] - items[n]) for u, p, n in zip(*BATCH, strict=True)]
    return -torch.stack([margin.sigmoid().log() for margin in margins]).mean()


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("mlp_width", [None, 3])
def test_embeddings_and_gradients_equal_those_of_the_dense_twin(behaviour, mlp_width):
    model = build("mmgcn", behaviour=behaviour, features=toy_features(mlp_width=mlp_width)).double()
    model.reg_weight = 0
    torch.testing.assert_close(model.embed(), slow_embed(model))
    parameters = list(model.parameters())
    for _ in range(2):  # also once the constants are remembered
        loss, twin = model.loss(BATCH), slow_ranking_loss(model)
        torch.testing.assert_close(loss, twin)
        gradients, expected = (torch.autograd.grad(of, parameters, materialize_grads=True) for of in (loss, twin))
        torch.testing.assert_close(gradients, expected)


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_as_published_there_are_as_many_layers_as_the_config_says(n_layers):
    model = build("mmgcn", n_layers=n_layers)
    assert len(model.image.layers) == n_layers
    torch.testing.assert_close(model.embed(), slow_embed(model))


def test_as_mmrec_there_are_three_layers_whatever_the_config_says():
    models = [build("mmgcn", behaviour="as_mmrec", n_layers=n_layers) for n_layers in (1, 3)]
    assert torch.equal(models[0].embed()[0], models[1].embed()[0])
    torch.testing.assert_close(models[0].embed(), build("mmgcn", n_layers=3).embed())


def test_as_published_ids_and_preferences_are_trained_and_regularised():
    model = build("mmgcn")
    ids, u, p, n = model.ids.rows, BATCH.users, BATCH.positives + 3, BATCH.negatives + 3
    squares = (ids[u] ** 2).mean() + ((ids[p] ** 2).mean() + (ids[n] ** 2).mean()) / 2
    squares = squares + (model.image.preferences.rows**2).mean() + (model.text.preferences.rows**2).mean()
    torch.testing.assert_close(model.loss(BATCH), slow_ranking_loss(model) + 0.1 * squares)
    trained = dict(model.named_parameters())
    assert {"ids.rows", "image.preferences.rows", "text.preferences.rows"} <= set(trained)
    model.loss(BATCH).backward()
    assert all(trained[name].grad.abs().sum() > 0 for name in trained)
    decayed = model.decayed(BATCH)
    expected = ids[u], ids[p], ids[n], model.image.preferences.rows[u], model.text.preferences.rows[u]
    assert all(map(torch.equal, decayed, expected)) and len(decayed) == 5


def test_as_mmrec_ids_and_preferences_stay_and_the_regulariser_moves_nothing():
    model, other = (build("mmgcn", behaviour="as_mmrec", reg_weight=reg_weight) for reg_weight in (0.1, 0.0))
    assert not any("ids" in name or "preferences" in name for name, _ in model.named_parameters())
    ids, u, p, n = model.ids.rows, BATCH.users, BATCH.positives + 3, BATCH.negatives + 3
    squares = (ids[u] ** 2).mean() + ((ids[p] ** 2).mean() + (ids[n] ** 2).mean()) / 2
    squares = squares + (model.image.preferences.rows**2).mean()  # not the text's
    losses = model.loss(BATCH), other.loss(BATCH)
    torch.testing.assert_close(losses[0], losses[1] + 0.1 * squares)
    gradients = [
        torch.autograd.grad(loss, list(of.parameters())) for loss, of in zip(losses, (model, other), strict=True)
    ]
    assert all(map(torch.equal, *gradients))
    assert model.decayed(BATCH) == ()


def test_what_is_constant_is_scaled_and_averaged_once_and_what_is_trained_each_time():
    for behaviour, mlp_width, constants in (
        ("as_published", None, {"text.items"}),
        ("as_published", 3, set()),
        ("as_mmrec", None, {"image.users", "text.users", "text.items"}),
        ("as_mmrec", 3, {"image.users", "text.users"}),
    ):
        model = build("mmgcn", behaviour=behaviour, features=toy_features(mlp_width=mlp_width))
        model.loss(BATCH)
        buffers = dict(model.named_buffers())
        for part, expected in (("own", constants), ("mean", constants & {"text.items"})):  # 3 users: product first
            assert {name.removesuffix(f".{part}") for name in buffers if name.endswith(f".{part}")} == expected


def test_as_mmrec_a_loaded_state_brings_its_constants_with_it():
    model, other = (build("mmgcn", seed=seed, behaviour="as_mmrec") for seed in (0, 1))
    other.loss(BATCH)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.embed(), slow_embed(model))
    torch.testing.assert_close(other.loss(BATCH), model.loss(BATCH))


def ours(theirs: str) -> str:
    """The toolbox's name of a parameter or constant, as here."""
    modality, _, rest = theirs.partition("_gcn.")
    branch = {"v": "image", "t": "text"}.get(modality)
    for old, new in (("conv_embed_", "weight"), ("linear_layer", "linear"), ("g_layer", "mix")):
        if rest.startswith(old):
            layer, _, parameter = rest.removeprefix(old).partition(".")
            return f"{branch}.layers.{int(layer) - 1}.{new}" + (f".{parameter}" if new != "weight" else "")
    if theirs == "id_embedding":
        return "ids.rows"
    return f"{branch}." + rest.replace("MLP.", "projection.").replace("preference", "preferences.rows")


@needs_golden
@pytest.mark.parametrize("case", ["plain", "weight_decay"])
def test_mmgcn_equals_the_toolbox_golden(case):
    golden, inputs, settings = read_golden(f"mmgcn/{case}")
    model = build_golden(
        "mmgcn",
        inputs,
        d=settings["embedding_size"],
        n_layers=3,
        image_width=256,
        reg_weight=settings["reg_weight"],
    )
    names = {name.split("::")[1]: ours(name.split("::")[1]) for name in golden if name[:5] in ("param", "const")}
    assert set(names.values()) == {name for name in model.state_dict() if not name.startswith("last.")}
    copy_golden(model, golden, names)
    users, items = model.embed()
    torch.testing.assert_close(torch.cat([users, items]), torch.tensor(golden["repr_init"]), **CLOSE)
    torch.testing.assert_close(users @ items.T, torch.tensor(golden["scores_init"]), **CLOSE)
    trained = {name.split("::")[1]: ours(name.split("::")[1]) for name in golden if name.startswith("param::")}
    assert set(trained.values()) == {name for name, _ in model.named_parameters()}
    follow_golden(model, golden, inputs, settings, trained)
    users, items = model.embed()  # as the toolbox: those of the third forward, before the third step
    torch.testing.assert_close(users @ items.T, torch.tensor(golden["scores_after3"]), **CLOSE)
