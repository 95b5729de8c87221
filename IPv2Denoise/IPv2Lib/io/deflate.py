"""Deflate by Intel's ISA-L, which is five times as fast as zlib at the same size; by zlib where it is not installed."""

from __future__ import annotations

try:
    from isal.igzip import IGzipFile as GzipFile
    from isal.isal_zlib import compressobj, decompressobj
except ImportError:  # it has no wheel for some machines
    from gzip import GzipFile  # type: ignore[assignment]  # it is the parent of the other
    from zlib import compressobj, decompressobj  # type: ignore[assignment]  # which the others stand in for

__all__ = ["GZIP", "LEVEL", "ZLIB", "GzipFile", "compressobj", "decompressobj"]

LEVEL = 2
"""Of compression, to either library: higher ones take several times as long, and save 1 % of a CT."""

GZIP, ZLIB = 31, 15
"""Values of `wbits`."""
