"""The backbones by name. A new one: its settings and its class in this folder, a row here, a section in the config.

The settings are read where a run is planned, so nothing is imported here that needs torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cliper.models.backbones.base_settings import BackboneSettings
from cliper.models.backbones.bpr_settings import BprSettings
from cliper.models.backbones.dualgnn_settings import DualgnnSettings
from cliper.models.backbones.freedom_settings import FreedomSettings
from cliper.models.backbones.lattice_settings import LatticeSettings
from cliper.models.backbones.lightgcn_settings import LightgcnSettings
from cliper.models.backbones.mmgcn_settings import MmgcnSettings
from cliper.models.backbones.slmrec_settings import SlmrecSettings
from cliper.models.backbones.vbpr_settings import VbprSettings
from cliper.variants import Row, Variants

if TYPE_CHECKING:  # `stages.code_id` follows imports: without this, an edit in a backbone would re-run no cell
    from cliper.models.backbones import bpr, dualgnn, freedom, lattice, lightgcn, mmgcn, slmrec, vbpr  # noqa: F401

BACKBONES = Variants[BackboneSettings](
    "backbone",
    "cliper.models.backbones.base:Backbone",
    {
        "mmgcn": Row(MmgcnSettings, "cliper.models.backbones.mmgcn:Mmgcn"),
        "dualgnn": Row(DualgnnSettings, "cliper.models.backbones.dualgnn:Dualgnn"),
        "lattice": Row(LatticeSettings, "cliper.models.backbones.lattice:Lattice"),
        "slmrec": Row(SlmrecSettings, "cliper.models.backbones.slmrec:Slmrec"),
        "freedom": Row(FreedomSettings, "cliper.models.backbones.freedom:Freedom"),
        "vbpr": Row(VbprSettings, "cliper.models.backbones.vbpr:Vbpr"),
        "lightgcn": Row(LightgcnSettings, "cliper.models.backbones.lightgcn:Lightgcn"),
        "bpr": Row(BprSettings, "cliper.models.backbones.bpr:Bpr"),
    },
)
