"""The encoders by kind. A new one: a file with its settings, a file with its class, a row here, its test.

No class that computes is imported here, so that a config is checked without torch.
"""

from __future__ import annotations

from cliper.features.encoders.base_settings import EncoderSettings
from cliper.features.encoders.bridge_settings import BridgeSettings
from cliper.features.encoders.cnn_settings import CnnSettings
from cliper.features.encoders.longclip_settings import LongClipSettings
from cliper.features.encoders.open_clip_settings import OpenClipSettings
from cliper.features.encoders.sentence_settings import SentenceSettings
from cliper.variants import Row, Variants

ENCODERS: Variants[EncoderSettings] = Variants(
    "encoder",
    "cliper.features.encoders.base:EncoderKind",
    {
        "open_clip": Row(OpenClipSettings, "cliper.features.encoders.open_clip:OpenClip"),
        "longclip": Row(LongClipSettings, "cliper.features.encoders.longclip:LongClip"),
        "bridge": Row(BridgeSettings, "cliper.features.encoders.bridge:Bridge"),
        "sentence": Row(SentenceSettings, "cliper.features.encoders.sentence:Sentence"),
        "cnn": Row(CnnSettings, "cliper.features.encoders.cnn:Cnn"),
    },
)
