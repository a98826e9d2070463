"""Modules and model files to OpenVINO IR: converted, quantized by NNCF, written.

A torch module becomes an IR through a trace (2.3 s for ResNet50, the batch dynamic; torch.export
takes 6.6 s and leaves height and width dynamic too).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from corral.backends.openvino.fixed_batch import take_one
from corral.backends.openvino.quantize import quantize
from corral.backends.openvino.read import read_file
from corral.backends.openvino.types import DATATYPES, type_name
from corral.backends.thrown import THROWN, explain
from corral.errors import ModelError, PassingError, telling_line
from corral.models.asking import Question
from corral.models.spec import ModelSpec
from corral.settings import BackendName, Precision
from corral.tensors import TensorSpec

if TYPE_CHECKING:
    import openvino
    import torch

    from corral.backends.job import BuildJob

#: all that OpenVINO says of a full disk is "iostream error"
_DISK = "iostream"


def write(job: BuildJob) -> None:
    """Writes the IR that a job asks for; INT8 is made of the FP32 IR.

    Raises:
        ModelError: the user's file cannot be read.
        PassingError: the disk does not take it.
    """
    spec = job.spec
    if job.precision is Precision.INT8:
        model = quantize(job.fp32(), job)
    elif spec.file is not None:
        job.at("convert")
        model = read(spec, job.source or spec.file)
    else:
        job.at("build model")
        module = spec.build(job.weights)
        job.at("convert")
        model = convert(module, spec)
    job.at("save")
    save(model, job.file)


def convert(module: torch.nn.Module, spec: ModelSpec) -> openvino.Model:
    """The module as an IR: FP32 ``input`` [?,3,crop,crop] to FP32 ``output`` [?,classes]."""
    import openvino as ov
    import torch

    item = [3, spec.recipe.crop, spec.recipe.crop]
    with torch.inference_mode():
        model = ov.convert_model(module, example_input=torch.zeros(1, *item), input=[-1, *item])
    model.inputs[0].get_tensor().set_names({"input"})
    model.outputs[0].get_tensor().set_names({"output"})
    return model


def read(spec: ModelSpec, source: Path) -> openvino.Model:
    """A user's model file; one whose batch is fixed takes one item; see ``fixed_batch.way``.

    Args:
        spec: the model.
        source: its file, all of it plain.

    Raises:
        ModelError: it cannot be read, or there is no way to give it one item.
    """
    specs = spec.signature.input_specs(spec.native)
    model = read_file(
        Question(
            str(source),
            [(name, port.shape) for name, port in _known(spec)],
            {name: port.datatype.name for name, port in _known(spec)},
        )
    )
    _check_datatypes(model, spec)
    if spec.fixed_batch in {None, 1} and is_open(model):
        batch = spec.fixed_batch or -1
        try:
            model.reshape({index: [batch, *port.shape] for index, port in enumerate(specs)})
        except RuntimeError as error:
            raise ModelError(f"--model {spec.file}: {telling_line(error)}") from None
    return take_one(model, spec)


def _check_datatypes(model: openvino.Model, spec: ModelSpec) -> None:
    """Raises ModelError where a file says another datatype of a port than its graph has."""
    signature = spec.signature
    wanted = (*signature.input_specs(spec.native), *signature.output_specs)
    ports = (*model.inputs, *model.outputs)
    if len(ports) != len(wanted):
        return
    for port, one in zip(ports, wanted, strict=True):
        kind = port.element_type.get_type_name()
        if kind != type_name(one.datatype):
            raise ModelError(
                f"--model {spec.file}: it says that {one.name!r} is {one.datatype.name}, and its "
                f"graph makes {DATATYPES[kind].name if kind in DATATYPES else kind.upper()}: "
                "export it anew"
            )


def _known(spec: ModelSpec) -> list[tuple[str, TensorSpec]]:
    """Each input by every name that it has."""
    specs = spec.signature.input_specs(spec.native)
    if spec.signature.inputs:
        return [(port.name, port) for port in specs]
    return [(name, specs[0]) for name in spec.signature.input_names]


def is_open(model: openvino.Model) -> bool:
    """Whether a file leaves more of its inputs open than the batch."""
    return any(
        port.partial_shape.rank.is_dynamic
        or any(dimension.is_dynamic for dimension in list(port.partial_shape)[1:])
        for port in model.inputs
    )


def save(model: openvino.Model, xml: Path) -> None:
    """Writes the IR, with its weights in FP32 as they are.

    Raises:
        PassingError: the disk does not take it.
        ModelError: the engine does not.
    """
    import openvino as ov

    try:
        ov.save_model(model, xml, compress_to_fp16=False)
    except THROWN as error:
        if _DISK not in str(error):
            raise ModelError(
                f"OpenVINO cannot write the artefact: {explain(error, BackendName.OPENVINO)}"
            ) from error
        free_mb = shutil.disk_usage(xml.parent).free // 10**6
        raise PassingError(
            f"the artefact cannot be written to {xml.parent.parent}, which has {free_mb} MB free"
        ) from None
