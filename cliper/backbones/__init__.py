"""The backbones by name. A new one: a file, a line here, a section in the config and its schema."""

from __future__ import annotations

from cliper.backbones.base import Backbone
from cliper.backbones.bpr import Bpr
from cliper.backbones.dualgnn import Dualgnn
from cliper.backbones.freedom import Freedom
from cliper.backbones.lattice import Lattice
from cliper.backbones.lightgcn import Lightgcn
from cliper.backbones.mmgcn import Mmgcn
from cliper.backbones.slmrec import Slmrec
from cliper.backbones.vbpr import Vbpr
from cliper.errors import ConfigError, unknown

BACKBONES: dict[str, type[Backbone]] = {
    "bpr": Bpr,
    "dualgnn": Dualgnn,
    "freedom": Freedom,
    "lattice": Lattice,
    "lightgcn": Lightgcn,
    "mmgcn": Mmgcn,
    "slmrec": Slmrec,
    "vbpr": Vbpr,
}


def find(name: str) -> type[Backbone]:
    """Look a backbone up. Raises ConfigError with the known names."""
    if name not in BACKBONES:
        raise ConfigError(unknown("backbone", name, BACKBONES))
    return BACKBONES[name]
