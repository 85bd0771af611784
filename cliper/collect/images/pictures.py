"""Examine fetched bytes: are they images that can be used? For `crawl`, in its own process or in others.

Imports only Pillow, so that such a process starts quickly.
"""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from PIL import ExifTags, Image

from cliper.broken import BROKEN_IMAGE

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP")
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF")  # of these formats; BMP's two letters could start a text


class Verdict(NamedTuple):
    """The result of examining a file."""

    status: str
    width: int | None = None  # px
    height: int | None = None  # px
    detail: str | None = None
    format: str | None = None  # as Pillow names it
    mode: str | None = None  # as Pillow names it: RGB, L, P (palette), CMYK, …
    is_animated: bool | None = None
    orientation: int | None = None  # EXIF's: 1 is upright, 2 to 8 turned or mirrored
    sha256: str | None = None  # of the bytes; for images only


def examine(body: bytes, *, max_pixels: int, min_side_px: int) -> Verdict:
    """Check that bytes are a whole image of an allowed size; an image is decoded only after its header has passed.

    >>> examine(b"<html>Not found</html>", max_pixels=100, min_side_px=1).status
    'not_an_image'
    """
    try:
        image = Image.open(io.BytesIO(body), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return Verdict("too_large", detail="more pixels than Pillow opens")
    except BROKEN_IMAGE:
        if body.startswith(SIGNATURES):
            return Verdict("truncated", detail="header broken")
        return Verdict("not_an_image", detail="no JPEG, PNG, GIF, WEBP or BMP" if body else "empty")
    width, height = image.size
    if width * height > max_pixels:
        return Verdict("too_large", width, height, f"more than {max_pixels} pixels")
    if min(width, height) < min_side_px:
        return Verdict("too_small", width, height, f"a side of less than {min_side_px} px")
    mode = image.mode
    try:
        image.draft(None, (1, 1))  # JPEG: decode to 1/8, which still reads the file to its end
        image.load()
        is_animated = getattr(image, "is_animated", False)
    except BROKEN_IMAGE:
        return Verdict("truncated", width, height, "image data broken or cut")
    sha256 = hashlib.sha256(body).hexdigest()
    return Verdict("ok", width, height, None, image.format, mode, is_animated, _orientation(image), sha256)


def _orientation(image: Image.Image) -> int | None:
    with suppress(*BROKEN_IMAGE):  # broken EXIF does no harm: the picture itself is whole
        value = image.getexif().get(ExifTags.Base.Orientation)
        return value if value in range(1, 9) else None
    return None


def examine_all(bodies: Sequence[bytes | None], *, max_pixels: int, min_side_px: int) -> list[Verdict | None]:
    """Examine several files; None stays None."""
    return [body if body is None else examine(body, max_pixels=max_pixels, min_side_px=min_side_px) for body in bodies]


def follow_parent() -> None:
    """Run at the start of a process that examines: let it end with its parent, even if that is killed."""
    threading.Thread(target=_wait_and_end, daemon=True).start()


def _wait_and_end() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
