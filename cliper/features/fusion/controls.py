"""The controls: features that lack what a claim rests on, made from an arm's own.

A gain that a control keeps does not come from what the control took away. All draws have one seed, so every cell of an
arm reads the same features, whatever its own seed. Not in the paper.
"""

from __future__ import annotations

import numpy as np

from cliper.arrays import Bools, Vectors

SEED = 0


def control_images(control: str | None, image: Vectors, is_filled: Bools) -> tuple[Vectors, Bools]:
    """The images that the views are weighed by, and that become image features.

    image      (I, D)
    is_filled  (I,) items without an image of their own
    returns    (I, D), (I,)

    shuffled_images  each item with an image gets that of another one
    text_only        zeros, all flagged, so the views get uniform weights
    """
    if control == "text_only":
        return np.zeros_like(image), np.ones_like(is_filled)
    if control == "shuffled_images":
        order = np.random.default_rng(SEED).permutation(np.flatnonzero(~is_filled))
        shuffled = image.copy()
        shuffled[order] = image[np.roll(order, 1)]  # one large circle: no item keeps its own
        return shuffled, is_filled
    return image, is_filled


def control_features(
    control: str | None, image: Vectors, text: Vectors, text_is_filled: Bools
) -> tuple[Vectors, Vectors, Bools]:
    """Image features, fused text features and the text's flags.

    image, text     (I, D), (I, D')
    text_is_filled  (I,)

    noise       both are normal noise, as large as the features were; flags stay
    image_only  texts are zeros, all flagged
    """
    if control == "image_only":
        return image, np.zeros_like(text), np.ones_like(text_is_filled)
    if control == "noise":
        generator = np.random.default_rng(SEED)
        return noise_like(image, generator), noise_like(text, generator), text_is_filled
    return image, text, text_is_filled


def noise_like(vectors: Vectors, generator: np.random.Generator) -> Vectors:
    """Draw normal values with mean 0 and the root mean square of others, in their shape."""
    size = np.sqrt(np.mean([np.square(row, dtype=np.float64).mean() for row in vectors]))  # by rows, for memory
    drawn: Vectors = generator.standard_normal(vectors.shape, dtype=np.float32) * np.float32(size)
    return drawn
