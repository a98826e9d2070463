"""Pixels become the input inside of the graph, where the engine fuses it with what follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corral.tensors import Recipe

if TYPE_CHECKING:
    import openvino


def accept_pixels(model: openvino.Model, recipe: Recipe) -> openvino.Model:
    """Puts the recipe's normalisation in front: the input becomes UINT8 [n,h,w,3]."""
    import openvino as ov
    from openvino.preprocess import ColorFormat, PrePostProcessor

    chain = PrePostProcessor(model)
    tensor_info = chain.input().tensor()
    tensor_info.set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    chain.input().model().set_layout(ov.Layout(recipe.layout))
    steps = chain.input().preprocess()
    if recipe.colors == "GREY":
        tensor_info.set_color_format(ColorFormat.RGB)
        # In floats: of pixels it would be rounded.
        steps.convert_element_type(ov.Type.f32).convert_color(ColorFormat.GRAY)
    elif recipe.colors == "BGR":
        steps.reverse_channels().convert_element_type(ov.Type.f32)
    else:
        steps.convert_element_type(ov.Type.f32)
    channels = recipe.channels
    steps.mean(list(recipe.mean[:channels])).scale(list(recipe.std[:channels]))
    steps.convert_layout(ov.Layout(recipe.layout))
    return chain.build()
