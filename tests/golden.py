"""What the toolbox MMRec computed on a world of its own, in ../shared/golden, and our backbones on that world."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
import toy
from toy_backbones import build

from cliper.models.backbones.base import Backbone, Interactions, ItemFeatures, Triples

GOLDEN = toy.SHARED / "golden"
needs_golden = pytest.mark.skipif(not GOLDEN.exists(), reason="needs ../shared/golden")
CLOSE = {"rtol": 1e-4, "atol": 1e-6}  # tolerances of golden/README.md, as below
Arrays = Mapping[str, np.ndarray]


def read_golden(case: str) -> tuple[Arrays, Arrays, dict[str, Any]]:
    """What the toolbox computed, the inputs it had, and its settings."""
    golden = np.load(GOLDEN / f"{case}.npz")
    return golden, np.load(GOLDEN / "inputs.npz"), ast.literal_eval(str(golden["settings"]))


def build_golden(name: str, inputs: Arrays, *, d: int = 8, behaviour: str = "as_mmrec", **settings: Any) -> Any:
    """Build a backbone on the golden world."""
    train = Interactions(inputs["train_user"], inputs["train_item"], int(inputs["n_users"]), int(inputs["n_items"]))
    none = np.zeros(train.n_items, dtype=bool)
    features = ItemFeatures(inputs["image_feat"], inputs["text_feat"], none, none)
    return build(name, train, features, d=d, behaviour=behaviour, n_found=8, **settings)  # more than any k there


def copy_golden(model: Backbone, golden: Arrays, names: Mapping[str, str]) -> None:
    """Copy the toolbox's initial values.

    names  of all parameters and of constants, as in the toolbox -> as here
    """
    state = model.state_dict()
    assert {name for name, _ in model.named_parameters()} <= set(names.values()) <= set(state)
    values = {ours: torch.tensor(golden[_key(golden, theirs)]) for theirs, ours in names.items()}
    model.load_state_dict({ours: value.reshape(state[ours].shape) for ours, value in values.items()}, strict=False)


def _key(golden: Arrays, name: str) -> str:
    return f"param::{name}" if f"param::{name}" in golden else f"const::{name}"


def follow_golden(
    model: Backbone,
    golden: Arrays,
    inputs: Arrays,
    settings: Mapping[str, Any],
    names: Mapping[str, str],
    *,
    atol: float = 5e-5,
) -> None:
    """Take the toolbox's three steps, and compare losses, first gradients, and parameters after one and three steps.

    names  of parameters, as in the toolbox -> as here
    atol   of parameters after steps
    """
    optimiser = torch.optim.Adam(
        model.parameters(), lr=settings["learning_rate"], weight_decay=settings["weight_decay"], fused=True
    )
    for step, batch in enumerate(torch.tensor(inputs["batches"])):
        optimiser.zero_grad()
        loss = model.loss(Triples(*batch))
        assert loss.item() == pytest.approx(golden[f"loss_step{step}"].item(), rel=1e-4, abs=1e-6)
        loss.backward()
        for theirs, ours in names.items() if step == 0 else ():
            gradient, expected = model.get_parameter(ours).grad, golden[f"grad::{theirs}"]
            assert (gradient is None) == (str(expected) == "None"), ours
            if gradient is not None:
                torch.testing.assert_close(gradient, torch.tensor(expected).reshape(gradient.shape), **CLOSE)
        optimiser.step()
        for theirs, ours in names.items() if step in (0, 2) else ():
            parameter, expected = model.get_parameter(ours).data, golden[f"after{step + 1}::{theirs}"]
            torch.testing.assert_close(parameter, torch.tensor(expected).reshape(parameter.shape), rtol=0, atol=atol)
    assert step == 2
