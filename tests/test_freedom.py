"""FREEDOM."""

import numpy as np
import pytest
import torch
from golden import CLOSE, build_golden, copy_golden, follow_golden, needs_golden, read_golden
from torch.nn.functional import logsigmoid
from toy_backbones import BATCH, build, toy_features

from cliper.models.maths.sparse import interaction_graph


def test_adds_the_item_graph_and_the_loss_of_both_modalities():
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


def test_drops_edges_in_training_only():
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


def golden_freedom(case):
    golden, inputs, settings = read_golden(f"freedom/{case}")
    model = build_golden(
        "freedom",
        inputs,
        n_ui_layers=settings["n_ui_layers"],
        n_item_layers=settings["n_mm_layers"],
        k=settings["knn_k"],
        image_weight=settings["mm_image_weight"],
        edge_dropout=settings["dropout"],
        reg_weight=settings["reg_weight"],
    )
    copy_golden(model, golden, NAMES)
    half = golden["const::masked_adj_idx"].shape[1] // 2  # the other half is the transpose
    users, items = golden["const::masked_adj_idx"][:, :half]
    n_users, n_items = int(inputs["n_users"]), int(inputs["n_items"])
    model.train_graph = interaction_graph(users, items - n_users, n_users, n_items)
    return model, golden, inputs, settings


@needs_golden
@pytest.mark.parametrize("case", ["plain", "weight_decay", "edge_dropout"])
def test_equals_the_toolbox_golden(case):
    model, golden, inputs, settings = golden_freedom(case)
    users, items = model.embed()
    torch.testing.assert_close(users @ items.T, torch.tensor(golden["scores_init"]), **CLOSE)
    trained = torch.cat(model._propagate(model.train_graph))
    torch.testing.assert_close(trained, torch.tensor(golden["repr_train_init"]), **CLOSE)
    # The true gradients of biases are 0, and Adam makes steps of rounding noise.
    names = {theirs: ours for theirs, ours in NAMES.items() if not ours.endswith("bias")}
    follow_golden(model, golden, inputs, settings, names)


@needs_golden
def test_graphs_equal_the_toolbox_golden():
    model, golden, *_ = golden_freedom("plain")
    for name, ours in (
        ("mm", model.item_graph(torch.eye(30))),
        ("norm", torch.cat([torch.zeros(40, 40), model.graph(torch.eye(30))], dim=1)),
    ):
        theirs = torch.zeros(70, 70)
        theirs[tuple(golden[f"const::{name}_adj_idx"])] = torch.tensor(golden[f"const::{name}_adj_val"])
        torch.testing.assert_close(ours, theirs[: ours.shape[0], : ours.shape[1]], rtol=1e-5, atol=1e-7)
