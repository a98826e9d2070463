"""A model's signature, on its way to a worker."""

from __future__ import annotations

import msgspec

from corral.tensors import Datatype, Recipe, Signature


def test_a_signature_survives_the_trip_to_a_worker() -> None:
    shapes = {Datatype.UINT8: (8, 8, 3), Datatype.FP32: (3, 8, 8)}
    recipe = Recipe(resize=9, crop=8, mean=(0.1, 2.0, 3.0))
    sent = Signature(shapes, (4,), recipe)
    found = msgspec.json.decode(msgspec.json.encode(sent), type=Signature)
    assert (found.input_shapes, found.output_shape, found.recipe) == (shapes, (4,), recipe)
    assert found.datatypes == (Datatype.UINT8, Datatype.FP32)
    assert found.native is Datatype.UINT8
    assert found.input_bytes == {Datatype.UINT8: 192, Datatype.FP32: 768}
    assert found.output_bytes == 16


def test_pictures_need_square_pixels_and_a_recipe() -> None:
    pixels = {Datatype.UINT8: (8, 8, 3)}
    assert Signature(pixels, (4,)).takes_pictures
    assert not Signature(pixels, (4,), None).takes_pictures
    assert not Signature({Datatype.UINT8: (8, 9, 3)}, (4,)).takes_pictures
    assert not Signature({Datatype.FP32: (3, 8, 8)}, (4,)).takes_pictures
