"""Examine fetched bytes: are they images that can be used? For `crawl`, in processes of its own, see `examiners`.

Imports only Pillow, so that such a process starts quickly.
"""

from __future__ import annotations

import hashlib
import io
import re
import resource
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import NamedTuple

from PIL import ExifTags, Image

from cliper.broken import BROKEN_IMAGE

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP")
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF")  # of these formats; BMP's two letters could start a text
MAX_SCANS = 100  # of a JPEG; encoders write about 10, and an empty one takes 20 ms with 40 megapixels
MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")  # of a JPEG's segment; the others stand within image data
SCAN, END = 0xDA, 0xD9


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
    is_jpeg = image.format in ("JPEG", "MPO")
    if is_jpeg and body.count(b"\xff\xda") > MAX_SCANS and count_scans(body) > MAX_SCANS:
        return Verdict("undecodable", width, height, f"more than {MAX_SCANS} scans")
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


def count_scans(jpeg: bytes) -> int:
    """Number of a JPEG's scans, without those of pictures in its metadata or behind its end."""
    place, n_scans = 0, 0
    while (marker := MARKER.search(jpeg, place + 2)) and (kind := marker[0][-1]) != END:
        n_scans += kind == SCAN
        place = marker.end() - 2 + int.from_bytes(jpeg[marker.end() : marker.end() + 2])
    return n_scans


def serve(pipe: int, max_cpu_s: int, **limits: int) -> None:
    """Answer each list of files with their verdicts, until the pipe of this number ends. None stays None.

    A file that takes more CPU time ends the process with SIGXCPU, which no decoder can catch or delay.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with Connection(pipe) as questions, suppress(EOFError, OSError):
        while True:
            verdicts = list[Verdict | None]()
            for body in questions.recv():
                _limit_cpu(max_cpu_s)
                verdicts.append(None if body is None else examine(body, **limits))
            questions.send(verdicts)


def _limit_cpu(seconds: int) -> None:
    """Let this process end when it has used so much more CPU time, or up to a second more."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(time.process_time()) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
