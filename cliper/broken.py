"""What Pillow raises on broken images; it names no common class.

Imports Pillow and nothing else, so that processes that examine images start quickly.
"""

from __future__ import annotations

import struct
import zlib

from PIL.Image import DecompressionBombError

BROKEN_IMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    struct.error,
    zlib.error,
    DecompressionBombError,
)
