"""CLIPER: multi-view CLIP features for multimodal recommendation, from raw data to the paper's tables."""

__version__ = "0.1.0"
