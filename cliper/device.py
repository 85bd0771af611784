"""The device that numbers are computed on."""

from __future__ import annotations

import torch

from cliper.errors import ConfigError


def choose_device(name: str, *, setting: str) -> torch.device:
    """Device of a name in the config: auto is cuda where there is one.

    setting  where the config has the name

    Raises ConfigError for cuda where there is none.
    """
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise ConfigError(f"{setting} is cuda, but torch finds no GPU here; write auto or cpu")
    return torch.device("cuda" if has_cuda and name != "cpu" else "cpu")
