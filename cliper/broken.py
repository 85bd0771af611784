"""The exceptions that Pillow raises on broken images; they share no class of Pillow's.

Imports only Pillow, so that processes that examine images start quickly.
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
