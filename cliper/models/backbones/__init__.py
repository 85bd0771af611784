"""The backbones by name. A new one: a file, a line here, a section in the config and its schema."""

from __future__ import annotations

from cliper.errors import ConfigError, unknown
from cliper.models.backbones.base import Backbone
from cliper.models.backbones.bpr import Bpr
from cliper.models.backbones.dualgnn import Dualgnn
from cliper.models.backbones.freedom import Freedom
from cliper.models.backbones.lattice import Lattice
from cliper.models.backbones.lightgcn import Lightgcn
from cliper.models.backbones.mmgcn import Mmgcn
from cliper.models.backbones.slmrec import Slmrec
from cliper.models.backbones.vbpr import Vbpr

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
