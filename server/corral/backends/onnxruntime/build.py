"""Artefacts of the onnxruntime backend: one ONNX file, its batch dimension dynamic."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from corral.backends.onnxruntime.fixed_batch import take_one
from corral.backends.onnxruntime.quantize import quantize
from corral.backends.onnxruntime.sessions import open_as_is
from corral.errors import ModelError
from corral.models.pictures import GREY_WEIGHTS
from corral.models.spec import ModelSpec, Weights
from corral.settings import Precision
from corral.tensors import Recipe, Signature

if TYPE_CHECKING:
    import onnx

    from corral.backends.job import BuildJob

_OPSET = 17


def write(job: BuildJob) -> None:
    """Writes the ONNX file that a job asks for; INT8 is made of the FP32 file."""
    if job.precision is Precision.INT8:
        quantize(job.fp32(), job)
    else:
        job.at("build model")
        write_fp32(job.spec, job.weights, job.file, job.source or job.spec.file)


def write_fp32(spec: ModelSpec, weights: Weights, file: Path, source: Path | None = None) -> None:
    """Exports a module of the zoo, or takes a user's ONNX file, in one file and plain.

    Args:
        spec: the model.
        weights: its weights, of the zoo's.
        file: where to.
        source: the user's file.
    """
    if source is not None:
        import onnx

        # Before it is written: what the engine does not take is to be said of the user's file.
        open_as_is(source)
        model = onnx.load(source)
        make_plain(model)
        fix_shapes(model, spec.signature)
        onnx.save(take_one(model, spec), file)
        return
    import torch

    example = torch.zeros(1, 3, spec.recipe.crop, spec.recipe.crop)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            spec.build(weights),
            (example,),
            str(file),
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {0: "n"}, "output": {0: "n"}},
            opset_version=_OPSET,
            # The other exporter needs a package more (onnxscript), and leaves constants unfolded.
            dynamo=False,
        )


def make_plain(model: onnx.ModelProto) -> None:
    """Leaves nothing among a model's inputs but its input, the batch dynamic unless it is fixed.

    Old exporters list the weights as inputs too, which keeps an engine from taking them for
    constants, and some write 0 or -1 for a batch of any size.
    """
    graph = model.graph
    weights = {weight.name for weight in graph.initializer}
    inputs = [tensor for tensor in graph.input if tensor.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)
    # Where weights need not be inputs.
    model.ir_version = max(model.ir_version, 4)
    for tensor in (*graph.input, *graph.output):
        for dim in tensor.type.tensor_type.shape.dim[:1]:
            if dim.dim_value <= 0:
                dim.dim_param = dim.dim_param or "n"


def fix_shapes(model: onnx.ModelProto, signature: Signature) -> None:
    """Writes an item's shape into inputs that leave it open, so that the engine can plan by it."""
    specs = signature.input_specs(signature.native)
    for tensor, spec in zip(model.graph.input, specs, strict=True):
        dims = tensor.type.tensor_type.shape.dim
        for dim, size in zip(dims[1:], spec.shape, strict=False):
            dim.dim_value = size


def with_pixels(
    file: str, mean: tuple[float, ...], std: tuple[float, ...], recipe: Recipe | None = None
) -> bytes:
    """The model with a normalisation in front: its input becomes UINT8 [n,h,w,3].

    Args:
        file: a plain ONNX file with one FP32 input [n,3,h,w], or as the recipe's layout and colours
            have it.
        mean: in pixel units, one a channel.
        std: in pixel units.
        recipe: for layout and colours; None: NCHW, R, G, B.

    Raises:
        ModelError: the file cannot be read.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    recipe = recipe or Recipe()
    try:
        model = onnx.load(file)
    # onnx raises what protobuf raises, which differs by its implementation.
    except Exception as error:
        raise ModelError(f"the artefact {file} cannot be read") from error
    graph = model.graph
    tensor = graph.input[0]
    dims = [dim.dim_value or "n" for dim in tensor.type.tensor_type.shape.dim]
    height, width = dims[2:] if recipe.layout == "NCHW" else dims[1:3]
    channels = recipe.channels
    constants = {"corral_mean": mean[:channels], "corral_std": std[:channels]}
    steps = [helper.make_node("Cast", ["corral_pixels"], ["corral_float"], to=TensorProto.FLOAT)]
    source = "corral_float"
    if recipe.colors == "BGR":
        constants["corral_colors"] = (0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0)
    elif recipe.colors == "GREY":
        constants["corral_colors"] = tuple(float(weight) for weight in GREY_WEIGHTS)
    if recipe.colors != "RGB":
        steps.append(helper.make_node("MatMul", [source, "corral_colors"], ["corral_mixed"]))
        source = "corral_mixed"
    steps.append(helper.make_node("Sub", [source, "corral_mean"], ["corral_centred"]))
    nhwc = recipe.layout == "NHWC"
    scaled = tensor.name if nhwc else "corral_scaled"
    steps.append(helper.make_node("Div", ["corral_centred", "corral_std"], [scaled]))
    if not nhwc:
        perm = [0, 3, 1, 2]
        steps.append(helper.make_node("Transpose", [scaled], [tensor.name], perm=perm))
    for name, values in constants.items():
        array = np.asarray(values, np.float32)
        if name == "corral_colors":
            array = array.reshape(3, channels)
        graph.initializer.append(numpy_helper.from_array(array, name))
    for index, node in enumerate(steps):
        graph.node.insert(index, node)
    del graph.input[:]
    graph.input.append(
        helper.make_tensor_value_info(
            "corral_pixels", TensorProto.UINT8, [dims[0], height, width, 3]
        )
    )
    return bytes(model.SerializeToString())
