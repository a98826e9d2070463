"""What an encoded picture says about itself, read without a codec and with bounded work.

A codec believes the file. Pillow 13 unpacks compressed texts of a PNG before it knows the
size, reads every entry of an EXIF directory (5,000 entries that share one value cost 320 MB), and
goes through stray bytes one at a time. So the walk over JPEG segments and PNG chunks is done
here, in microseconds, and ``essence`` leaves a codec only those that make the pixels.
"""

from __future__ import annotations

import dataclasses
import re
import struct

from corral.errors import InvalidRequest

Data = bytes | bytearray | memoryview

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_MAGIC = b"\xff\xd8\xff"
#: how many of the first bytes tell what it is
_START_BYTES = 16
#: by the file's first bytes, so that the answer can name what it is
_OTHERS = {
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"%PDF": "a PDF",
    b"<svg": "an SVG",
}
_FTYPES = {b"avif": "an AVIF", b"heic": "a HEIC", b"heix": "a HEIC", b"mif1": "a HEIC"}

#: Chunks or segments that any picture may have; encoders write 8 KiB or more into a chunk, 64 KiB
#: into a segment. They are walked on the event loop, and a request may have many pictures.
_FREE_PARTS = 256
#: a picture may have one more for so many of its bytes
_PART_BYTES = 512
_MAX_PARTS = 16_384
_MAX_STRAY_BYTES = 4_096
#: deflate's best: no stream unpacks to more than this many times its length
_MAX_DEFLATE_RATIO = 1_032
#: Photographs are 1/2 to 1/60 of their pixels, screenshots to 1/200; what is beyond this was made
#: to unpack to a lot. A pixel counts 4 bytes, which is what one takes when it is unpacked.
_MAX_UNPACKED_RATIO = 300
_PIXEL_BYTES = 4
#: never too much, however well it is packed: an empty screen in full HD is a picture, too
_SMALL_PIXELS = 1920 * 1080

#: PNG bit depths by colour type, and samples a pixel
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})

_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SOS, _EOI, _DHP = 0xDA, 0xD9, 0xDE
#: what ends a JPEG's packed data: not a stuffed byte, a restart marker or a fill byte
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_STANDALONE = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})
_APP0, _APP1, _APP14, _COM = 0xE0, 0xE1, 0xEE, 0xFE
#: JFIF and Adobe say which colours the components are; the other APPn and comments do not matter
_DROPPED = (frozenset(range(0xE0, 0xF0)) | {_COM}) - {_APP0, _APP14}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """What an encoded picture says about itself.

    Attributes:
        format: "JPEG" or "PNG".
        width: in pixels, as stored, that is before ``orientation``.
        height: in pixels, as stored.
        depth: bits a sample.
        orientation: EXIF's, 1 (upright) to 8.
        kept: (start, end) of the bytes that make the pixels.
        scan_bytes: from a JPEG's first scan to the file's end; 0 for a PNG.
    """

    format: str
    width: int
    height: int
    depth: int
    orientation: int
    kept: tuple[tuple[int, int], ...]
    scan_bytes: int = 0

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


def check_header(data: Data, max_pixels: int) -> ImageHeader:
    """Reads the header; nothing is decoded or reserved, and the work is bounded.

    Args:
        data: the encoded picture.
        max_pixels: the largest width times height.

    Raises:
        InvalidRequest: not a JPEG or PNG, cut off, damaged, empty, larger than that, or packed
            so well that it can only be meant to fill memory.
    """
    start = bytes(data[:_START_BYTES])
    try:
        if start.startswith(_JPEG_MAGIC):
            return _walk_jpeg(data, max_pixels)
        if start.startswith(_PNG_MAGIC):
            return _walk_png(data, max_pixels)
    except (struct.error, IndexError):
        raise InvalidRequest("the picture is cut off: its data ends inside the header") from None
    raise InvalidRequest(_not_an_image(start))


def is_no_picture(beginning: bytes) -> bool:
    """Whether data is neither JPEG nor PNG, whatever comes after its beginning."""
    told = len(beginning) >= _START_BYTES
    return told and not beginning.startswith((_JPEG_MAGIC, _PNG_MAGIC))


def essence(data: Data, header: ImageHeader) -> bytes:
    """The picture without metadata: only what ``header.kept`` names."""
    if header.kept == ((0, len(data)),):
        return bytes(data)
    view = memoryview(data)
    return b"".join(view[start:end] for start, end in header.kept)


def cut_trailer(encoded: bytes, header: ImageHeader) -> tuple[bytes, int]:
    """A JPEG up to its end, and its number of scans: phones put films and more behind it.

    It takes time in proportion to the bytes, so it is no part of the check of the header.

    Args:
        encoded: what ``essence`` leaves of a JPEG.
        header: of the same.

    Raises:
        InvalidRequest: without what lies behind it, it is packed too well; or it is cut off.
    """
    first_scan = len(encoded) - header.scan_bytes
    at, scans = first_scan, 0
    while at + 4 <= len(encoded):
        marker = encoded[at + 1]
        if marker == _EOI:
            at += 2
            break
        scans += marker == _SOS
        (length,) = (0,) if marker in _STANDALONE else struct.unpack_from(">H", encoded, at + 2)
        found = _MARKER.search(encoded, at + 2 + length)
        at = len(encoded) if found is None else found.start()
    else:
        at = len(encoded)
    _check_ratio(header.pixels, at - first_scan)
    return (encoded if at >= len(encoded) else encoded[:at]), scans


def _not_an_image(start: bytes) -> str:
    """A sentence about data that is neither JPEG nor PNG, from its first 16 bytes."""
    if not start:
        return "the picture is empty: send an encoded JPEG or PNG"
    name = next((name for magic, name in _OTHERS.items() if start.startswith(magic)), "")
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        name = "a WebP"
    elif start[4:8] == b"ftyp":
        name = _FTYPES.get(start[8:12], "")
    if name:
        return f"the picture is {name} file: send a JPEG or PNG"
    return "the data is not a picture: send an encoded JPEG or PNG"


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if not width * height:
        raise InvalidRequest(f"the picture has no pixels: {width} x {height}")
    if width * height > max_pixels:
        raise InvalidRequest(
            f"the picture has {width} x {height} = {width * height:,} pixels; "
            f"this server takes at most {max_pixels:,}: scale it down first"
        )


def _check_ratio(pixels: int, data_bytes: int) -> None:
    """Refuses a picture that is small to send and large to hold.

    Args:
        pixels: width times height.
        data_bytes: what they are packed into.
    """
    if pixels > _SMALL_PIXELS and pixels * _PIXEL_BYTES > data_bytes * _MAX_UNPACKED_RATIO:
        raise InvalidRequest(
            f"the picture unpacks {data_bytes:,} bytes to {pixels:,} pixels, which no photograph "
            f"does: scale it down to {_SMALL_PIXELS:,} first"
        )


def _most_parts(data: Data) -> int:
    """Chunks or segments that a picture of so many bytes may have."""
    return min(_MAX_PARTS, _FREE_PARTS + len(data) // _PART_BYTES)


def _walk_png(data: Data, max_pixels: int) -> ImageHeader:
    """Goes from chunk to chunk, to the end, so that a cut file is noticed before it is decoded."""
    length, name, width, height, depth, colour = struct.unpack_from(">I4sIIBB", data, 8)
    if name != b"IHDR" or length != 13 or depth not in _PNG_DEPTHS.get(colour, ()):
        raise InvalidRequest("the PNG is damaged: its header makes no sense")
    _check_size(width, height, max_pixels)
    kept: list[tuple[int, int]] = [(0, 8)]
    at, idat_bytes, orientation = 8, 0, 1
    for _ in range(_most_parts(data)):
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise InvalidRequest("the PNG is cut off: its data ends before its last chunk does")
        if name in _PNG_KEPT:
            _extend(kept, at, end)
        if name == b"IDAT":
            idat_bytes += length
        elif name == b"eXIf" and length < 2**16:
            orientation = _orientation(bytes(data[at + 8 : end - 4]))
        elif name == b"IEND":
            break
        at = end
    else:
        raise InvalidRequest(f"the PNG has more than {_most_parts(data):,} chunks: write it anew")
    row_bytes = (width * depth * _PNG_SAMPLES[colour] + 7) // 8
    if row_bytes * height > idat_bytes * _MAX_DEFLATE_RATIO:
        raise InvalidRequest("the PNG is cut off: it has too little data for its pixels")
    _check_ratio(width * height, idat_bytes)
    return ImageHeader(
        format="PNG",
        width=width,
        height=height,
        depth=depth,
        orientation=orientation,
        kept=tuple(kept),
    )


def _walk_jpeg(data: Data, max_pixels: int) -> ImageHeader:
    """Goes from segment to segment, up to the first scan."""
    kept: list[tuple[int, int]] = [(0, 2)]
    depth = width = height = 0
    at, strays, orientation = 2, 0, 1
    for _ in range(_most_parts(data)):
        start = at
        at = _next_marker(data, at, _MAX_STRAY_BYTES - strays)
        strays += at - start
        marker = data[at + 1]
        if marker in _STANDALONE:
            at += 2
            continue
        if marker == _EOI:
            break
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker < 0xC0 or marker == _DHP or length < 2:
            raise InvalidRequest("the JPEG is damaged: its header makes no sense")
        if marker in _SOF:
            if depth:
                raise InvalidRequest("the JPEG is damaged: it has two frames")
            depth, height, width = struct.unpack_from(">BHH", data, at + 4)
            _check_size(width, height, max_pixels)
        elif marker == _SOS:
            if not depth:
                break
            _extend(kept, at, len(data))
            _check_ratio(width * height, len(data) - at)
            return ImageHeader(
                format="JPEG",
                width=width,
                height=height,
                depth=depth,
                orientation=orientation,
                kept=tuple(kept),
                scan_bytes=len(data) - at,
            )
        elif marker == _APP1 and bytes(data[at + 4 : at + 10]) == b"Exif\0\0":
            orientation = _orientation(bytes(data[at + 10 : at + 2 + length]))
        if marker not in _DROPPED:
            _extend(kept, at, at + 2 + length)
        at += 2 + length
    else:
        raise InvalidRequest(
            f"the JPEG has more than {_most_parts(data):,} segments: write it anew"
        )
    raise InvalidRequest("the JPEG is damaged: it has no picture in it")


def _next_marker(data: Data, at: int, strays_left: int) -> int:
    """Where the next JPEG marker is: after fill bytes, and bytes that some cameras leave."""
    start = at
    while data[at] != 0xFF or data[at + 1] in (0x00, 0xFF):
        at += 1
        if at - start > strays_left:
            raise InvalidRequest("the JPEG is damaged: there is other data between its segments")
    return at


def _extend(kept: list[tuple[int, int]], start: int, end: int) -> None:
    """Adds a span, and joins it to the last where they touch."""
    if kept[-1][1] == start:
        kept[-1] = (kept[-1][0], end)
    else:
        kept.append((start, end))


def _orientation(tiff: bytes) -> int:
    """EXIF's orientation, 1 to 8; 1 where the directory is damaged, for it is only metadata."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
            if tag == 0x0112:
                return value if kind == 3 and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
