"""Compressed pixels of one frame, judged before a native decoder sees them.

Markers, lengths and sizes of the codestream must fit together and fit the header: a decoder that is given less than it
expects returns whatever it has, never returns, or crashes.
"""

from __future__ import annotations

from collections.abc import Callable

RLE = "1.2.840.10008.1.2.5"
JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_STARTS_OF_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_WITHOUT_LENGTH = frozenset(range(0xD0, 0xD8)) | {0x01}


def check(codestream: bytes, syntax: str, rows: int, columns: int, width: int) -> None:
    """Refuse a codestream that is cut short, has bytes too many, or is of an image of another size.

    Parameters
    ----------
    codestream : bytes
        Of one frame.
    syntax : str
        Transfer syntax.
    rows, columns : int
    width : int
        Bytes of a stored value.

    Raises
    ------
    ValueError
    """
    judge: Callable[[bytes, int, int, int], None] = _jpeg
    if syntax == RLE:
        judge = _rle
    elif syntax in JPEG_2000:
        judge = _jpeg_2000
    try:
        judge(codestream, rows, columns, width)
    except IndexError as error:
        raise ValueError("the pixel data is cut short") from error


def _check_size(found: tuple[int, ...], rows: int, columns: int) -> None:
    if found != (rows, columns, 1):
        raise ValueError(
            f"the pixel data is of {found[0]} × {found[1]} pixels with {found[2]} values each, the header says "
            f"{rows} × {columns} with 1"
        )


def _rle(code: bytes, rows: int, columns: int, width: int) -> None:
    numbers = [int.from_bytes(code[4 * index : 4 * index + 4], "little") for index in range(16)]
    ends = [*numbers[2 : width + 1], len(code)]
    starts = numbers[1 : width + 1]
    if len(code) < 64 or numbers[0] != width or starts[0] != 64 or any(numbers[width + 1 :]):
        raise ValueError("the pixel data has no RLE header that fits")
    for start, end in zip(starts, ends, strict=True):
        if not start < end <= len(code):
            raise ValueError("the pixel data has RLE segments that do not fit")
        missing, place = rows * columns, start
        while missing > 0 and place < end:
            control = code[place]
            if control < 128:
                missing -= control + 1
                place += control + 2
            else:
                missing -= 257 - control if control > 128 else 0
                place += 2 if control > 128 else 1
        if missing or place > end or code[place:end].strip(b"\0\x80"):
            raise ValueError("the pixel data has an RLE segment of another length than the image")


def _jpeg(code: bytes, rows: int, columns: int, width: int) -> None:
    """JPEG and JPEG-LS, which share the markers."""
    if code[:2] != b"\xff\xd8":
        raise ValueError("the pixel data does not begin as JPEG")
    place, size = 2, None
    while True:
        if code[place] != 0xFF:
            raise ValueError("the pixel data has no JPEG marker where one must be")
        marker = code[place + 1]
        if marker == 0xFF:  # fills
            place += 1
            continue
        place += 2
        if marker == 0xD9:
            break
        if marker in _WITHOUT_LENGTH:
            continue
        length = _number(code, place, 2)
        if marker in _STARTS_OF_FRAMES:
            size = (_number(code, place + 3, 2), _number(code, place + 5, 2), code[place + 7])
            if code[place + 2] > 8 * width:
                raise ValueError(f"the pixel data has {code[place + 2]} bits where the header has {8 * width}")
        place += length
        if marker == 0xDA:
            place = _end_of_scan(code, place)
    if size is None:
        raise ValueError("the pixel data has no size")
    _check_size(size, rows, columns)
    _check_rest(code, place)


def _end_of_scan(code: bytes, place: int) -> int:
    while (place := code.find(b"\xff", place)) >= 0:
        follows = code[place + 1]
        if follows >= 0x80 and follows not in _WITHOUT_LENGTH and follows != 0xFF:
            return place
        place += 1
    raise IndexError


def _jpeg_2000(code: bytes, rows: int, columns: int, width: int) -> None:
    place = 0
    if code[4:8] == b"jP  ":  # in a file of its own, against the standard
        place = code.find(b"\xff\x4f\xff\x51")
    if place < 0 or code[place : place + 4] != b"\xff\x4f\xff\x51":
        raise ValueError("the pixel data does not begin as JPEG 2000")
    right, bottom, left, top, *tile = (_number(code, place + 8 + 4 * index, 4) for index in range(8))
    _check_size((bottom - top, right - left, _number(code, place + 40, 2)), rows, columns)
    if not (tile[0] > 0 and tile[1] > 0) or -(-right // tile[0]) * -(-bottom // tile[1]) > 65535:
        raise ValueError("the pixel data has tiles of no size")
    place += 2
    while (marker := _number(code, place, 2)) != 0xFFD9:
        if marker == 0xFF90:  # a part of a tile; without a length it is the last
            length = _number(code, place + 6, 4)
            if 0 < length < 14:
                raise ValueError("the pixel data has parts of tiles that do not fit")
            place = place + length if length else code.rindex(b"\xff\xd9")
        elif marker >> 8 == 0xFF:
            place += 2 + _number(code, place + 2, 2)
        else:
            raise ValueError("the pixel data has no JPEG 2000 marker where one must be")
    _check_rest(code, place + 2)


def _number(code: bytes, place: int, size: int) -> int:
    if place + size > len(code):
        raise IndexError
    return int.from_bytes(code[place : place + size], "big")


def _check_rest(code: bytes, place: int) -> None:
    if code[place:].strip(b"\0\xff"):
        raise ValueError(f"the pixel data has {len(code) - place} bytes more than the image")
