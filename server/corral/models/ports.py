"""A model file's inputs and outputs, settled: what one item of each is. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from corral.errors import ConfigError, ModelError
from corral.models.onnx_header import Port
from corral.tensors import INPUT_NAME, OUTPUT_NAME, Datatype, Recipe, Signature, TensorSpec

#: one item's shape by the name of an input or output
Shapes = Mapping[str, tuple[int, ...]]

#: of a size on the command line, with zeros in front
_MOST_DIGITS = 20
#: a larger first dimension of outputs, whose inputs take any batch, is rather no batch
MOST_MEANT = 64


@dataclasses.dataclass(frozen=True)
class Settled:
    """What a file's ports are, one item each.

    Attributes:
        inputs: one or more.
        outputs: one or more.
        fixed_batch: the batch of all, where the file fixes it.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    fixed_batch: int | None


def read_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """What ``--shape`` says: "NAME=3,224,224", one an input or output.

    Raises:
        ConfigError: it is of another form.
    """
    found: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        parts = [part.strip() for part in sizes.split(",")] if sizes.strip() else []
        whole = all(_is_size(part) for part in parts)
        if not name or not whole or name in found:
            raise ConfigError(
                f"--shape {text[:100]}: NAME=3,224,224, one item of an input or output without "
                "the batch, each name once"
            )
        found[name] = tuple(int(part) for part in parts)
    return found


def _is_size(text: str) -> bool:
    """Whether a dimension may be that; of thousands of digits Python makes no number."""
    known = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    return known and 0 < int(text) < 2**31


def check_datatypes(path: Path, inputs: Sequence[Port], datatypes: Mapping[str, str]) -> None:
    """Raises ModelError where the TOML's datatypes are not those of the inputs."""
    said = {port.name: port.datatype for port in inputs}
    for name, datatype in datatypes.items():
        if said.get(name) != datatype:
            found = f"is {said[name]}" if name in said else f"is none of {', '.join(said)}"
            raise ModelError(
                f"{path.with_suffix('.toml')}: [datatypes] says {datatype} of input {name!r}, "
                f"which {found} in {path.name}"
            )


def settle(path: Path, inputs: Sequence[Port], outputs: Sequence[Port], shapes: Shapes) -> Settled:
    """Makes each port an item's shape.

    Args:
        path: the file, for messages.
        inputs: as the file has them.
        outputs: as the file has them.
        shapes: what the TOML or the command line says of them.

    Raises:
        ModelError: one line that names the file and what is left open, or contradicts it.
    """
    check_names(path, [port.name for port in (*inputs, *outputs)], shapes)
    ports = (*inputs, *outputs)
    odd = next((port.name for port in ports if "\ufffd" in port.name), None)
    if odd is not None and len(ports) > 2:
        raise ModelError(
            f"--model {path}: the name {odd!r} is not UTF-8, and nobody could ask for it"
        )
    if not inputs or not outputs:
        kind = "output" if inputs else "input"
        raise ModelError(f"--model {path}: has no {kind}")
    return Settled(
        tuple(_spec(path, port, "input", shapes) for port in inputs),
        tuple(_spec(path, port, "output", shapes) for port in outputs),
        _fixed_batch(path, inputs, outputs),
    )


def check_names(path: Path, names: Sequence[str], shapes: Shapes) -> Shapes:
    """The shapes; raises ModelError where one is of nothing that the file has."""
    for name in shapes:
        if name not in names:
            raise ModelError(
                f"--model {path}: a shape is given for {name!r} ({_givers(path)}); it has "
                f"{', '.join(names)}"
            )
    return shapes


def check_given(
    path: Path, inputs: Sequence[Port], outputs: Sequence[Port], shapes: Shapes
) -> None:
    """Raises ModelError where a shape is of nothing that the file has, or contradicts its header.

    An engine that is asked takes what is given for true, and the file is not heard any more.
    """
    check_names(path, [port.name for port in (*inputs, *outputs)], shapes)
    for kind, ports in (("input", inputs), ("output", outputs)):
        for port in ports:
            if port.name in shapes:
                _check_given(path, port, kind, shapes[port.name])


def is_open(port: Port, shapes: Shapes) -> bool:
    """Whether neither the file's header nor anybody else says what one item is."""
    if port.name in shapes:
        return False
    return port.shape is None or None in port.shape[1:]


def _spec(path: Path, port: Port, kind: str, shapes: Shapes) -> TensorSpec:
    if port.datatype not in Datatype.__members__:
        raise ModelError(
            f"--model {path}: its {kind} {port.name!r} is {port.datatype}, which is not served"
        )
    return TensorSpec(port.name, Datatype[port.datatype], _item(path, port, kind, shapes))


def _item(path: Path, port: Port, kind: str, shapes: Shapes) -> tuple[int, ...]:
    """One item's shape. The first dimension is the batch."""
    given = shapes.get(port.name)
    if given is not None:
        _check_given(path, port, kind, given)
        return given
    if port.shape is None:
        raise ModelError(
            f"--model {path}: the rank of its {kind} {port.name!r} is dynamic; "
            f"{_way_out(path, port)}"
        )
    if not port.shape:
        raise ModelError(
            f"--model {path}: its {kind} {port.name!r} is a scalar, without a batch: "
            "give it a first dimension"
        )
    item = port.shape[1:]
    if 0 in item and kind == "output":
        raise ModelError(
            f"--model {path}: an item of its output {port.name!r} has no values (a dimension of it "
            "is 0): export the model without that output"
        )
    fixed = [size for size in item if size]
    if len(fixed) != len(item):
        raise ModelError(
            f"--model {path}: its {kind} {port.name!r} is {shown(port)}; only the first dimension "
            f"may be dynamic; {_way_out(path, port)}"
        )
    return tuple(fixed)


def _check_given(path: Path, port: Port, kind: str, given: tuple[int, ...]) -> None:
    if port.shape is None:
        return
    item = port.shape[1:]
    fits = len(item) == len(given) and all(
        size in {None, wanted} for size, wanted in zip(item, given, strict=True)
    )
    if not fits:
        raise ModelError(
            f"--model {path}: its {kind} {port.name!r} is {shown(port)}, the batch first; an item "
            f"of it cannot be [{','.join(map(str, given))}]: correct {_givers(path)}"
        )


def _givers(path: Path) -> str:
    """Where a shape may have been given."""
    return f"--shape, or [shapes] or side in {path.with_suffix('.toml').name}"


def shown(port: Port) -> str:
    """A port's shape for a person: "[?,3,224,224]"."""
    dims = "..." if port.shape is None else ",".join(str(size or "?") for size in port.shape)
    return f"[{dims}]"


def _way_out(path: Path, port: Port) -> str:
    items = (
        "3,224,224"
        if port.shape is None or len(port.shape) == 4
        else ",".join(str(size or 128) for size in port.shape[1:])
    )
    return (
        f"say what one item is: --shape {port.name}={items}, or [shapes] in "
        f"{path.with_suffix('.toml').name}"
    )


def _fixed_batch(path: Path, inputs: Sequence[Port], outputs: Sequence[Port]) -> int | None:
    """The batch of all, where the file fixes it, be it of its outputs alone.

    An output of one item beside inputs of any batch is left to the warm-up, which tries whether
    the file means it.
    """
    batch, one = None, inputs[0]
    for source in inputs:
        fixed = source.shape[0] if source.shape else None
        if batch is not None and fixed not in {None, batch}:
            raise ModelError(
                f"--model {path}: its inputs have batches of {batch} and {fixed}: no one batch "
                "fits all"
            )
        if fixed:
            batch, one = fixed, source
    answers = {target.name: target.shape[0] if target.shape else None for target in outputs}
    # Of inputs that take any batch, an exporter may have known one all the same.
    told = [port.shape[0] for port in outputs if port.shape and len(port.shape) > 1]
    meant = batch or next((size for size in told if size and 1 < size <= MOST_MEANT), None)
    for name, size in answers.items():
        if size not in {None, meant} and (meant, size) != (None, 1):
            raise ModelError(
                f"--model {path}: its input {one.name!r} has a batch of "
                f"{batch or 'any size'} and its output {name!r} one of {size}: the "
                "batch is the first dimension of each"
            )
    return meant


def signature(settled: Settled, pixels: tuple[int, ...] | None, recipe: Recipe | None) -> Signature:
    """What is served of a file.

    One input and one FP32 output keep the names that the zoo has; the file's own are understood,
    too. All others go by the file's names.

    Args:
        settled: the ports.
        pixels: one picture's shape as UINT8, where the input takes pictures besides.
        recipe: how pictures are made to fit.
    """
    source, target = settled.inputs[0], settled.outputs[0]
    # Arrays of BF16 do not say that they are: only a spec does.
    named_in = len(settled.inputs) > 1 or source.datatype is Datatype.BF16
    named_out = len(settled.outputs) > 1 or target.datatype is not Datatype.FP32
    own_first = named_in or named_out
    shapes = {source.datatype: source.shape}
    if pixels is not None and not named_in:
        shapes[Datatype.UINT8] = pixels
    return Signature(
        shapes,
        target.shape,
        recipe,
        settled.inputs if named_in else (),
        settled.outputs if named_out else (),
        _names(source.name, INPUT_NAME, own_first),
        _names(target.name, OUTPUT_NAME, own_first),
    )


def _names(own: str, usual: str, own_first: bool) -> tuple[str, ...]:
    names = (own, usual) if own_first else (usual, own)
    return tuple(dict.fromkeys(names))
