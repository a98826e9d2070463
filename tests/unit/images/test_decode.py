"""Encoded pictures to pixels: what is right, what is refused, and that nothing else happens."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from importlib import resources

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from support.requests_by_hand import png_bomb

from corral.errors import InvalidRequest
from corral.images import decode as images
from corral.images import header as image_header
from corral.models.pictures import draw_pictures
from corral.models.spec import Recipe

RECIPE = Recipe()
SMALL = Recipe(resize=40, crop=32)
MAX_PIXELS = 50_000_000

#: photographs with fine structure
PHOTOGRAPHS = resources.files("corral.models") / "photographs" / "guard"

MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]


def encode(picture: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def drawing(width: int, height: int) -> Image.Image:
    """A drawn picture of any size."""
    square = Image.fromarray(draw_pictures(1, 7, 256)[0])
    return square.resize((width, height), Image.Resampling.BICUBIC)


def plain(encoded: bytes, recipe: Recipe = RECIPE) -> NDArray[np.int64]:
    """The recipe as a training script writes it: decode, convert, resize, crop."""
    picture = Image.open(io.BytesIO(encoded)).convert("RGB")
    shorter = min(picture.size)
    width, height = (int(recipe.resize * side / shorter) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling[recipe.interpolation.upper()])
    left = round((width - recipe.crop) / 2)
    top = round((height - recipe.crop) / 2)
    cropped = picture.crop((left, top, left + recipe.crop, top + recipe.crop))
    return np.asarray(cropped).astype(np.int64)


def decoded(encoded: bytes, recipe: Recipe = RECIPE) -> NDArray[np.int64]:
    return images.decode(encoded, recipe, MAX_PIXELS).astype(np.int64)


def chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def png(
    width: int, height: int, depth: int, colour: int, rows: bytes, *extra: tuple[bytes, bytes]
) -> bytes:
    """A PNG by hand, for what Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *(chunk(name, content) for name, content in extra),
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        ]
    )


def with_segment(jpeg: bytes, marker: int, content: bytes) -> bytes:
    """A JPEG with one more segment right after its start."""
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + jpeg[2:]


def exif(orientation: int) -> bytes:
    entries = Image.Exif()
    entries[0x0112] = orientation
    return entries.tobytes()


# --- the same pixels as the plain recipe ---


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(500, 375), (375, 500), (256, 256), (257, 400), (300, 299)])
def test_equals_the_plain_recipe(size: tuple[int, int], interpolation: str) -> None:
    recipe = Recipe(interpolation=interpolation)
    for form in ("PNG", "JPEG"):
        encoded = encode(drawing(*size), form)
        assert np.abs(decoded(encoded, recipe) - plain(encoded, recipe)).max() <= 2


@pytest.mark.parametrize("size", [(2000, 1500), (1111, 777), (600, 4000)])
def test_draft_scaling_stays_close_to_the_plain_recipe(size: tuple[int, int]) -> None:
    encoded = encode(drawing(*size), quality=90)
    difference = np.abs(decoded(encoded) - plain(encoded))
    assert difference.mean() < 2
    assert difference.max() < 40


def photograph(name: str, shorter: int, ratio: float = 1.5) -> Image.Image:
    """One of corral's own photographs, scaled and cropped to a shorter side and a ratio."""
    with resources.as_file(PHOTOGRAPHS / f"{name}.jpg") as file, Image.open(file) as picture:
        size = (round(shorter * ratio), shorter)
        whole = picture.convert("RGB").crop((0, 0, picture.height * ratio, picture.height))
        return whole.resize(size, Image.Resampling.LANCZOS)


@pytest.mark.parametrize("shorter", [300, 512, 600, 768, 1024, 2050])
@pytest.mark.parametrize("name", ["raccoon", "flower"])
def test_a_photograph_of_any_size_is_close_to_the_plain_recipe(name: str, shorter: int) -> None:
    """A JPEG that is decoded to just the recipe's size leaves the filter nothing to weigh."""
    encoded = encode(photograph(name, shorter), quality=92)
    difference = np.abs(decoded(encoded) - plain(encoded))
    assert difference.max() <= 10


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(1001, 667), (2047, 1365)])
def test_a_turned_jpeg_of_odd_size_is_the_upright_one(
    orientation: int, size: tuple[int, int]
) -> None:
    """A scaled JPEG is rounded up to whole pixels at the edge that turning moves."""
    stored = photograph("raccoon", size[1], size[0] / size[1]).resize(size)
    turned = encode(stored, quality=92, exif=exif(orientation))
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}[orientation]
    whole = Image.open(io.BytesIO(encode(stored, quality=92)))
    upright = whole if undo is None else whole.transpose(Image.Transpose(undo))
    difference = np.abs(decoded(turned) - plain(encode(upright, "PNG", compress_level=1)))
    assert difference.max() <= 10


def test_a_film_behind_a_photograph_is_not_picture() -> None:
    """Phones put a film behind the picture: its bytes are no scans and no pixels."""
    jpeg = encode(photograph("raccoon", 600), progressive=True)
    film = np.random.default_rng(3).integers(0, 256, 10_000_000, np.uint8).tobytes()
    assert film.count(b"\xff\xda") > 100
    assert (decoded(jpeg + film) == decoded(jpeg)).all()
    png = encode(photograph("raccoon", 300), "PNG")
    assert (decoded(png + film[:100_000]) == decoded(png)).all()


def test_a_film_behind_a_bomb_hides_nothing() -> None:
    flat = encode(Image.new("L", (4000, 3000), 100), "JPEG", progressive=True, optimize=True)
    film = bytes(4_000_000)
    with pytest.raises(InvalidRequest, match="which no photograph does"):
        decoded(flat + film)


def test_draft_scaling_never_goes_below_the_size_that_is_needed() -> None:
    """A picture of exactly 2 x resize may be halved, one pixel less must not."""
    picture = Image.fromarray(np.indices((511, 511)).sum(0).astype(np.uint8) % 2 * 255)
    encoded = encode(picture, quality=100)
    assert np.abs(decoded(encoded) - plain(encoded)).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_exif_orientation_turns_the_picture_upright(orientation: int, form: str) -> None:
    upright = np.zeros((300, 400, 3), np.uint8)
    upright[:150, :200] = (255, 0, 0)
    upright[:150, 200:] = (0, 255, 0)
    upright[150:, :200] = (0, 0, 255)
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    stored = Image.fromarray(upright)
    if undo is not None:
        stored = stored.transpose(Image.Transpose(undo))
    pixels = decoded(encode(stored, form, exif=exif(orientation)))
    quarters = [pixels[:100, :100], pixels[:100, -100:], pixels[-100:, :100], pixels[-100:, -100:]]
    expected = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)]
    for quarter, colour in zip(quarters, expected, strict=True):
        assert np.abs(quarter.mean((0, 1)) - colour).max() < 8


def test_big_endian_exif_is_read_and_damaged_exif_ignored() -> None:
    jpeg = encode(drawing(64, 48))
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    turned = with_segment(jpeg, 0xE1, b"Exif\0\0" + tiff)
    assert images.check_header(turned, MAX_PIXELS).orientation == 6
    for length in range(len(tiff)):
        cut = with_segment(jpeg, 0xE1, b"Exif\0\0" + tiff[:length])
        assert images.check_header(cut, MAX_PIXELS).orientation in (1, 6)


# --- kinds of pictures ---


def test_cmyk_jpeg_is_shown_in_its_colours() -> None:
    picture = Image.new("RGB", (300, 300), (200, 60, 30))
    pixels = decoded(encode(picture.convert("CMYK"), quality=95))
    assert np.abs(pixels - (200, 60, 30)).max() < 12


def test_greyscale_jpeg_has_three_equal_channels() -> None:
    pixels = decoded(encode(drawing(300, 260).convert("L")))
    assert (pixels == pixels[..., :1]).all()


def test_16_bit_grey_is_divided_and_not_clipped() -> None:
    levels = np.repeat(np.linspace(0, 65535, 300).astype(np.uint16)[None], 300, axis=0)
    pixels = decoded(encode(Image.fromarray(levels), "PNG"))
    assert 100 < pixels.mean() < 155
    assert pixels[:, 112].mean() == pytest.approx(127, abs=3)


def test_transparency_of_every_kind_is_seen_on_white() -> None:
    grey_16 = png(8, 8, 16, 0, (b"\0" + b"\x12\x34" * 8) * 8, (b"tRNS", b"\x12\x34"))
    grey_4 = png(8, 8, 4, 0, (b"\0" + b"\x55" * 4) * 8, (b"tRNS", b"\0\5"))
    grey_1 = png(8, 8, 1, 0, (b"\0" + b"\0") * 8, (b"tRNS", b"\0\0"))
    rgb_16 = png(8, 8, 16, 2, (b"\0" + b"\x12\x34" * 24) * 8, (b"tRNS", b"\x12\x34" * 3))
    palette = png(8, 8, 8, 3, (b"\0" + b"\1" * 8) * 8, (b"PLTE", bytes(6)), (b"tRNS", b"\xff\0"))
    rgba = encode(Image.new("RGBA", (8, 8), (9, 9, 9, 0)), "PNG")
    grey_alpha = encode(Image.new("LA", (8, 8), (9, 0)), "PNG")
    for encoded in (grey_16, grey_4, grey_1, rgb_16, palette, rgba, grey_alpha):
        assert (decoded(encoded) == 255).all()


def test_opaque_neighbours_of_the_transparent_colour_stay() -> None:
    grey_4 = png(8, 8, 4, 0, (b"\0" + b"\x66" * 4) * 8, (b"tRNS", b"\0\5"))
    assert (decoded(grey_4) == 6 * 17).all()
    half = encode(Image.new("RGBA", (8, 8), (100, 100, 100, 51)), "PNG")
    assert (decoded(half) == 224).all()


def test_one_pixel_fills_the_crop() -> None:
    for form in ("PNG", "JPEG"):
        pixels = decoded(encode(Image.new("RGB", (1, 1), (10, 200, 30)), form, quality=100))
        assert np.abs(pixels - (10, 200, 30)).max() < 6


def test_animated_png_gives_its_first_picture() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    encoded = encode(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert (decoded(encoded) == (255, 0, 0)).all()


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    mode=st.sampled_from(MODES),
    form=st.sampled_from(["PNG", "JPEG"]),
    recipe=st.sampled_from([SMALL, RECIPE, Recipe(resize=224, interpolation="bicubic")]),
)
def test_any_size_and_mode_gives_crop_by_crop_pixels(
    width: int, height: int, mode: str, form: str, recipe: Recipe
) -> None:
    picture = drawing(width, height).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    if form == "JPEG":
        picture = picture.convert("RGB")
    encoded = encode(picture, form)
    header = images.check_header(memoryview(encoded), MAX_PIXELS)
    assert (header.format, header.width, header.height) == (form, width, height)
    pixels = images.decode(memoryview(encoded), recipe, MAX_PIXELS)
    assert pixels.shape == (recipe.crop, recipe.crop, 3)
    assert pixels.dtype == np.uint8


def test_a_thin_picture_does_not_become_a_large_one() -> None:
    """Scaled whole, 1 x 2,000,000 would be 256 x 512,000,000."""
    noise = np.random.default_rng(1).integers(118, 139, 2_000_000, np.uint8)
    rows = np.stack([np.zeros_like(noise), noise], axis=1).tobytes()
    encoded = png(1, 2_000_000, 8, 0, rows)
    tracemalloc.start()
    pixels = decoded(encoded)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (abs(pixels - 128) <= 1).all()
    assert peak_bytes < 20e6


# --- what is refused ---


def refusal(data: bytes, max_pixels: int = MAX_PIXELS) -> str:
    with pytest.raises(InvalidRequest) as caught:
        images.decode(data, RECIPE, max_pixels)
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"hello", "not a picture"),
        (bytes(1000), "not a picture"),
        (b"GIF89a" + bytes(100), "a GIF file"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "a WebP file"),
        (b"\0\0\0\x20ftypheic" + bytes(20), "a HEIC file"),
        (b"%PDF-1.7", "a PDF file"),
        (b"\xff\xd8\xff", "cut off"),
        (b"\xff\xd8\xff\xd9\xff", "no picture in it"),
        (b"\x89PNG\r\n\x1a\n", "cut off"),
    ],
)
def test_what_is_no_jpeg_or_png_is_named(data: bytes, words: str) -> None:
    assert words in refusal(data)
    with pytest.raises(InvalidRequest, match=words):
        images.check_header(data, MAX_PIXELS)


def test_other_formats_are_not_decoded() -> None:
    for form in ("GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "TGA"):
        assert "send" in refusal(encode(drawing(32, 32), form))


def test_too_many_pixels_is_refused_with_both_numbers() -> None:
    jpeg = encode(drawing(100, 50))
    assert "100 x 50 = 5,000 pixels" in refusal(jpeg, 4_999)
    assert "at most 4,999" in refusal(jpeg, 4_999)
    assert images.check_header(jpeg, 5_000).pixels == 5_000


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_claim_of_20000_by_20000_reserves_nothing(form: str) -> None:
    if form == "PNG":
        encoded = png(20_000, 20_000, 8, 2, bytes(100))
    else:
        jpeg = bytearray(encode(drawing(16, 16)))
        frame = jpeg.index(b"\xff\xc0")
        jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 20_000, 20_000)
        encoded = bytes(jpeg)
    tracemalloc.start()
    assert "400,000,000 pixels" in refusal(encoded)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 100_000


@pytest.mark.parametrize("depth", [1, 8])
def test_what_unpacks_to_hundreds_of_times_its_size_is_refused(depth: int) -> None:
    bomb = png_bomb(1921, 1080, depth)
    with pytest.raises(InvalidRequest, match="which no photograph does: scale it down"):
        image_header.check_header(bomb, MAX_PIXELS)
    empty_screen = png_bomb(1920, 1080, depth)
    assert image_header.check_header(empty_screen, MAX_PIXELS).pixels == 1920 * 1080


def test_a_jpeg_bomb_is_refused_and_a_smooth_photograph_is_not() -> None:
    flat = encode(Image.new("L", (4000, 3000), 100), "JPEG", progressive=True, optimize=True)
    with pytest.raises(InvalidRequest, match="which no photograph does"):
        image_header.check_header(flat, MAX_PIXELS)
    # A foggy sky of 12 megapixels at a quality that nobody would choose: still no bomb.
    coarse = np.random.default_rng(1).normal(180, 6, (60, 80, 3)).clip(0, 255).astype(np.uint8)
    sky = Image.fromarray(coarse).resize((4000, 3000), Image.Resampling.BICUBIC)
    noisy = np.asarray(sky).astype(np.int16)
    noisy[::2] += np.random.default_rng(2).integers(-12, 13, noisy[::2].shape, np.int16)
    photograph = encode(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), "JPEG", quality=30)
    assert image_header.check_header(photograph, MAX_PIXELS).pixels == 12_000_000


def test_pillows_own_limit_is_not_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    encoded = encode(drawing(64, 64), "PNG")
    assert decoded(encoded).shape == (224, 224, 3)
    assert "send" not in refusal(encoded, 4_095)


def test_zero_size_is_refused() -> None:
    assert "no pixels" in refusal(png(0, 5, 8, 2, b""))
    jpeg = bytearray(encode(drawing(16, 16)))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 7] = b"\0\0"
    assert "no pixels: 16 x 0" in refusal(bytes(jpeg))


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_cut_off_anywhere_is_refused(form: str) -> None:
    encoded = encode(drawing(64, 64), form)
    for length in range(0, len(encoded) - 1, 97):
        assert refusal(encoded[:length])


def test_a_png_with_too_little_data_for_its_pixels_is_refused() -> None:
    assert "too little data" in refusal(png(5_000, 5_000, 8, 2, bytes(10)))


def test_what_pillow_says_does_not_reach_the_client() -> None:
    encoded = bytearray(encode(drawing(64, 64), "PNG"))
    at = encoded.index(b"IDAT") + 20
    encoded[at : at + 40] = bytes(40)
    message = refusal(bytes(encoded))
    assert message == "the PNG cannot be decoded: it is damaged, cut off or of a rare kind"


def test_two_frames_are_refused() -> None:
    """Header and codec would each believe another one."""
    jpeg = encode(drawing(16, 16))
    frame = jpeg.index(b"\xff\xc0")
    (length,) = struct.unpack_from(">H", jpeg, frame + 2)
    copy = jpeg[frame : frame + 2 + length]
    assert "two frames" in refusal(jpeg[:frame] + copy + jpeg[frame:])


# --- work is bounded, and metadata never reaches a codec ---


def test_metadata_is_cut_out() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    jpeg = encode(drawing(64, 64), exif=exif(6), icc_profile=profile, comment=b"a comment")
    header = images.check_header(jpeg, MAX_PIXELS)
    bare = image_header.essence(jpeg, header)
    for mark in (b"Exif", b"ICC_PROFILE", b"a comment"):
        assert mark in jpeg
        assert mark not in bare
    text = PngInfo()
    text.add_text("Comment", "a comment" * 10)
    encoded = encode(drawing(64, 64), "PNG", pnginfo=text, icc_profile=profile, exif=exif(6))
    header = images.check_header(encoded, MAX_PIXELS)
    assert header.orientation == 6
    bare = image_header.essence(encoded, header)
    for mark in (b"tEXt", b"iCCP", b"eXIf"):
        assert mark in encoded
        assert mark not in bare


def test_a_text_bomb_is_never_unpacked() -> None:
    bomb = b"Comment\0\0" + zlib.compress(bytes(1_000_000))
    rows = (b"\0" + b"\x80") * 1
    encoded = png(1, 1, 8, 0, rows, *[(b"zTXt", bomb)] * 500)
    tracemalloc.start()
    decoded(encoded)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 5e6


def test_an_exif_directory_whose_entries_overlap_costs_nothing() -> None:
    """Read as Pillow does, these 5,000 entries of 60 KB are 300 MB."""
    entries = b"".join(struct.pack("<HHII", tag, 7, 60_000, 8) for tag in range(5_000))
    tiff = b"II*\0" + struct.pack("<IH", 8, 5_000) + entries
    encoded = with_segment(encode(drawing(64, 64)), 0xE1, b"Exif\0\0" + tiff)
    tracemalloc.start()
    decoded(encoded)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 5e6


def test_headers_that_take_long_to_walk_are_refused() -> None:
    jpeg = encode(drawing(16, 16))
    assert "segments: write it anew" in refusal(jpeg[:2] + b"\xff\xfe\0\2" * 5_000 + jpeg[2:])
    assert "other data" in refusal(jpeg[:20] + bytes(5_000) + jpeg[20:])
    many = chunk(b"teSt", b"") * 20_000
    encoded = encode(drawing(16, 16), "PNG")
    assert "chunks: write it anew" in refusal(encoded[:33] + many + encoded[33:])


def test_a_few_stray_bytes_between_segments_are_skipped() -> None:
    jpeg = encode(drawing(300, 300))
    strayed = jpeg[:20] + b"\0\1\2\xff\xff" + jpeg[20:]
    assert (decoded(strayed) == decoded(jpeg)).all()


def test_a_scan_bomb_is_refused() -> None:
    jpeg = encode(drawing(64, 64), progressive=True)
    last = jpeg.rindex(b"\xff\xda")
    scan = jpeg[last:-2]
    assert decoded(jpeg).shape == (224, 224, 3)
    assert "more than 100 scans" in refusal(jpeg[:-2] + scan * 100 + jpeg[-2:])


SEEDS = [
    encode(drawing(40, 30)),
    encode(drawing(40, 30), progressive=True, exif=exif(6)),
    encode(drawing(40, 30).convert("CMYK")),
    encode(drawing(40, 30), "PNG"),
    encode(drawing(40, 30).convert("P"), "PNG", transparency=3),
    encode(drawing(40, 30).convert("LA"), "PNG", exif=exif(3)),
]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", *(seed[:64] for seed in SEEDS)]),
    st.binary(max_size=300),
)
def test_garbage_is_an_invalid_request_or_a_picture(start: bytes, rest: bytes) -> None:
    answered(start + rest)


@settings(max_examples=300, deadline=None)
@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.floats(0, 1),
)
def test_damage_is_an_invalid_request_or_a_picture(
    seed: bytes, edits: list[tuple[float, int]], cut: float
) -> None:
    damaged = bytearray(seed)
    for place, value in edits:
        damaged[int(place * (len(seed) - 1))] = value
    answered(bytes(damaged if cut < 0.5 else damaged[: int(cut * len(seed))]))


def answered(data: bytes) -> None:
    """The data is decoded or refused; any other exception fails the test."""
    try:
        pixels = images.decode(data, SMALL, 1_000_000)
    except InvalidRequest as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 200
    else:
        assert pixels.shape == (32, 32, 3)
        assert pixels.dtype == np.uint8


@given(width=st.integers(1, 10**6), height=st.integers(1, 10**6))
def test_the_crop_box_lies_inside_the_picture(width: int, height: int) -> None:
    for recipe in (SMALL, RECIPE):
        left, top, right, bottom = images.crop_box(width, height, recipe)
        slack = 1e-6 * max(width, height)
        assert -slack <= left < right <= width + slack
        assert -slack <= top < bottom <= height + slack
        # The crop is as large a part of the shorter side as the recipe says.
        side = (right - left) if width <= height else (bottom - top)
        assert side == pytest.approx(min(width, height) * recipe.crop / recipe.resize)
