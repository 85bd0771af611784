"""Pictures small enough to stand in a page, as the encoders see them: upright or not, without transparency."""

from __future__ import annotations

import base64
import io

from PIL import Image

from cliper.broken import BROKEN_IMAGE

QUALITY = 60  # of WebP, from 0 to 100


def shrink(data: bytes, *sides_px: int) -> list[str] | None:
    """A picture as data URLs, each so small that it fits into a square of a side; none is enlarged.

    data     of a picture that crawl has kept, so its pixels are within crawl.max_pixels
    returns  None if it cannot be decoded, as in `encode`
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.draft(None, (2 * max(sides_px),) * 2)  # JPEG: decode to a half, a fourth or an eighth
            picture = image.convert("RGB")
    except BROKEN_IMAGE:
        return None
    return [_data_url(picture, side) for side in sides_px]


def _data_url(picture: Image.Image, side_px: int) -> str:
    small, written = picture.copy(), io.BytesIO()
    small.thumbnail((side_px, side_px))
    small.save(written, "WEBP", quality=QUALITY, method=6, icc_profile=b"", exif=b"")
    return f"data:image/webp;base64,{base64.b64encode(written.getvalue()).decode()}"
