"""Print hashes of one small cell of each backbone and of encoded texts and images, computed by the portable kernels.

A process of its own, since kernels are pinned before torch is loaded: python tests/portable_cells.py
"""

from __future__ import annotations

import hashlib
import json

from cliper import kernels

if __name__ == "__main__":
    kernels.pin("portable")

import numpy as np
import torch
from toy_backbones import build

from cliper.device import compute_with, describe_cpu
from cliper.features.encoders.cnn import load_lite0
from cliper.features.fusion.equations import cosine_similarities, fuse_weighted, similarity_weights
from cliper.models.backbones import BACKBONES
from cliper.models.backbones.base import Interactions, ItemFeatures, Triples
from cliper.models.maths.sampling import sample_triples

N_USERS, N_ITEMS, N_EPOCHS = 90, 60, 4


def world() -> tuple[Interactions, ItemFeatures]:
    """Nine items of each user; features whose widths fill no vector unit."""
    draw = np.random.default_rng(7)
    items = np.concatenate([draw.permutation(N_ITEMS)[:9] for _ in range(N_USERS)])
    image, text = (draw.random((N_ITEMS, width), dtype=np.float32) - 0.5 for width in (601, 77))
    none = np.zeros(N_ITEMS, dtype=bool)
    interactions = Interactions(np.repeat(np.arange(N_USERS), 9), items, N_USERS, N_ITEMS)
    return interactions, ItemFeatures(image, text, none, none)


def cell(name: str) -> bytes:
    """The embeddings after a few epochs."""
    interactions, features = world()
    model, draw = build(name, interactions, features, d=64), np.random.default_rng(1)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    for _ in range(N_EPOCHS):
        model.start_epoch(draw)
        drawn = sample_triples(interactions.users, interactions.items, np.arange(N_ITEMS), shuffle=draw, negatives=draw)
        for batch in torch.from_numpy(drawn).split(300, dim=1):
            optimiser.zero_grad()
            model.loss(Triples(*batch)).backward()
            optimiser.step()
    with torch.no_grad():
        return b"".join(side.contiguous().numpy().tobytes() for side in model.embed())


def fused() -> bytes:
    draw = np.random.default_rng(3)
    text, image = (draw.random(shape, dtype=np.float32) - 0.5 for shape in ((50, 4, 96), (50, 96)))
    similarities = cosine_similarities(text, image)
    weights = similarity_weights(similarities, np.ones_like(similarities, dtype=bool), temperature=0.2)
    return fuse_weighted(text, weights).tobytes()


def encoded() -> bytes:
    pixels = torch.from_numpy(np.random.default_rng(5).random((1, 3, 64, 64), dtype=np.float32))
    with torch.no_grad():
        return load_lite0().eval()(pixels).numpy().tobytes()


def attended() -> bytes:
    """A layer of a text tower."""
    generator = torch.Generator().manual_seed(1)
    layer = torch.nn.TransformerEncoderLayer(64, 4, 256, activation="gelu", batch_first=True).eval()
    for parameter in layer.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / 8
    return layer(torch.randn(3, 40, 64, generator=generator)).detach().numpy().tobytes()


if __name__ == "__main__":
    torch.set_flush_denormal(True)
    compute_with(threads=1, kernels_are="portable")
    made = {name: cell(name) for name in BACKBONES.rows}
    made |= {"fused": fused(), "lite0": encoded(), "attention": attended()}
    print(json.dumps({"hashes": {k: hashlib.sha256(v).hexdigest()[:12] for k, v in made.items()}, **describe_cpu()}))
