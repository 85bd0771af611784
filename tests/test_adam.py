"""Our Adam against torch's: the same parameters to the last bit, without torch's compiler."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from cliper.models.training.adam import Adam


def parameters() -> list[Parameter]:
    generator = torch.Generator().manual_seed(3)
    return [Parameter(torch.randn(shape, generator=generator)) for shape in ((40, 7), (7,), (3, 5), (2, 2))]


def give_gradients(them: list[Parameter], step: int) -> None:
    """Gradients of one step: the third parameter has none at first, the last one never."""
    generator = torch.Generator().manual_seed(step)
    gradients: list[Tensor | None] = [torch.randn(each.shape, generator=generator) for each in them]
    gradients[3] = None
    if step < 4:
        gradients[2] = None
    for parameter, gradient in zip(them, gradients, strict=True):
        parameter.grad = gradient


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_its_steps_are_torchs(weight_decay: float) -> None:
    ours, theirs = parameters(), parameters()
    own = Adam(ours, lr=0.01, weight_decay=weight_decay)
    other = torch.optim.Adam(theirs, lr=0.01, weight_decay=weight_decay, fused=True)
    for step in range(12):
        own.lr = other.param_groups[0]["lr"] = 0.01 * 0.9**step
        for them in (ours, theirs):
            give_gradients(them, step)
        own.step()
        other.step()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert torch.equal(ours[3], parameters()[3])
    own.zero_grad()
    assert all(each.grad is None for each in ours)


def test_it_goes_on_from_a_file_as_if_it_had_not_stopped() -> None:
    ours = parameters()
    own = Adam(ours, lr=0.01)
    for step in range(6):
        if step == 3:
            file = io.BytesIO()
            torch.save(own.state_dict(), file)
            file.seek(0)
            resumed, again = [Parameter(each.detach().clone()) for each in ours], file
        give_gradients(ours, step)
        own.step()
    other = Adam(resumed, lr=0.01)
    other.load_state_dict(torch.load(again, weights_only=True))
    for step in range(3, 6):
        give_gradients(resumed, step)
        other.step()
    assert all(torch.equal(a, b) for a, b in zip(ours, resumed, strict=True))


def test_it_loads_no_compiler() -> None:
    code = (
        "import sys, torch; from cliper.models.training.adam import Adam; p = torch.nn.Parameter(torch.ones(2)); "
        "p.grad = torch.ones(2); Adam([p], lr=0.1).step(); print(p.tolist(), 'torch._dynamo' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.endswith("False\n") and "0.9" in ran.stdout
