"""LightGCN."""

import torch
from torch.nn.functional import logsigmoid
from toy_backbones import BATCH, TOY, build


def test_loss_is_bpr_on_embeddings_averaged_over_the_layers():
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
