"""Adam as torch computes it, without torch's optimiser class.

The first optimiser of that class loads torch's compiler: 1.2 s and 120 MiB for each cell, which compiles nothing. The
steps are torch's own and the same to the last bit.

Source: paper, appendix A, names Adam; Kingma and Ba 2015, algorithm 1, with torch's defaults for β and ε.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.adam import adam


class Adam:
    """Adam over some parameters; those without a gradient stay as they are.

    lr            learning rate of the next step
    weight_decay  λ of an L2 term, added to the gradients
    """

    def __init__(self, parameters: Iterable[Parameter], *, lr: float, weight_decay: float = 0.0) -> None:
        self.lr = lr
        self._weight_decay = weight_decay
        self._parameters = list(parameters)
        self._moments: dict[int, dict[str, Tensor]] = {}  # place of a parameter -> its state

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters."""
        gradients = {n: each.grad for n, each in enumerate(self._parameters) if each.grad is not None}
        for place in gradients.keys() - self._moments.keys():
            self._moments[place] = _zeros(self._parameters[place])
        moments = [self._moments[place] for place in gradients]
        adam(
            [self._parameters[place] for place in gradients],
            list(gradients.values()),
            [each["exp_avg"] for each in moments],
            [each["exp_avg_sq"] for each in moments],
            [],
            [each["step"] for each in moments],
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.lr,
            weight_decay=self._weight_decay,
            eps=1e-8,
            maximize=False,
        )

    def state_dict(self) -> dict[int, dict[str, Tensor]]:
        """All that later steps depend on, except the parameters and the settings."""
        return self._moments

    def load_state_dict(self, state: dict[int, dict[str, Any]]) -> None:
        """Go on from a state, on the parameters' devices."""
        for place, kept in state.items():
            device = self._parameters[place].device
            self._moments[place] = {name: tensor.to(device) for name, tensor in kept.items()}


def _zeros(parameter: Parameter) -> dict[str, Tensor]:
    moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
    return {"step": torch.zeros((), dtype=torch.float32, device=parameter.device), **moments}
