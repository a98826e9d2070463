"""Our messages against the protocol as tritonclient has it, and against their own source."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc_health.v1 import health_pb2 as their_health
from grpc_reflection.v1alpha import reflection_pb2 as their_reflection
from tritonclient.grpc import InferInput, InferRequestedOutput, model_config_pb2, service_pb2
from tritonclient.grpc._utils import _get_inference_request

import corral_protos
from corral_protos import health_pb2, reflection_v1alpha_pb2
from corral_protos import open_inference_pb2 as pb

PROTOS = Path(corral_protos.__file__).parents[1]


def nested(messages: Any) -> Iterator[Any]:
    for message in messages:
        yield message
        yield from nested(message.nested_types)


def theirs(full_name: str) -> Any:
    for file in (service_pb2.DESCRIPTOR, model_config_pb2.DESCRIPTOR):
        head, *rest = full_name.removeprefix("inference.").split(".")
        message = file.message_types_by_name.get(head)
        for name in rest:
            message = message and message.nested_types_by_name.get(name)
        if message is not None:
            return message
    return None


def shape(field: Any) -> tuple[Any, ...]:
    """Everything of a field that shows on the wire."""
    kind = field.message_type or field.enum_type
    return (
        field.name,
        field.number,
        field.type,
        field.is_repeated,
        field.has_presence,
        kind and kind.full_name,
    )


MESSAGES = {m.full_name: m for m in nested(pb.DESCRIPTOR.message_types_by_name.values())}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_a_subset_of_the_protocols(name: str) -> None:
    message = MESSAGES[name]
    known = theirs(name)
    assert known is not None
    assert message.GetOptions().map_entry == known.GetOptions().map_entry
    assert {shape(f) for f in message.fields} <= {shape(f) for f in known.fields}
    for field in message.fields:
        if field.containing_oneof is not None:
            oneof = known.fields_by_name[field.name].containing_oneof
            assert oneof.name == field.containing_oneof.name


def test_enumerations_are_subsets_too() -> None:
    enums = dict(pb.DESCRIPTOR.enum_types_by_name)
    enums["Kind"] = pb.ModelInstanceGroup.DESCRIPTOR.enum_types_by_name["Kind"]
    known = dict(model_config_pb2.DESCRIPTOR.enum_types_by_name)
    known["Kind"] = model_config_pb2.ModelInstanceGroup.DESCRIPTOR.enum_types_by_name["Kind"]
    assert set(enums) == {"DataType", "Kind"}
    for name, enum in enums.items():
        ours = {value.name: value.number for value in enum.values}
        assert ours.items() <= {value.name: value.number for value in known[name].values}.items()


def test_the_calls_are_the_protocols() -> None:
    ours = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    known = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert ours.full_name == known.full_name
    calls = {(m.name, m.input_type.full_name, m.output_type.full_name) for m in ours.methods}
    assert len(calls) == 17
    assert calls <= {
        (m.name, m.input_type.full_name, m.output_type.full_name) for m in known.methods
    }


@pytest.mark.parametrize(
    ("ours", "known"),
    [
        (health_pb2, their_health),
        (reflection_v1alpha_pb2, their_reflection),
    ],
)
def test_health_and_reflection_are_grpcs(ours: Any, known: Any) -> None:
    found = {m.full_name: m for m in nested(ours.DESCRIPTOR.message_types_by_name.values())}
    # Ours are newer: theirs may lack a message, and no more than that.
    for message in nested(known.DESCRIPTOR.message_types_by_name.values()):
        assert {shape(f) for f in message.fields} == {
            shape(f) for f in found[message.full_name].fields
        }
    for name, service in ours.DESCRIPTOR.services_by_name.items():
        methods = known.DESCRIPTOR.services_by_name[name].methods
        assert service.full_name == known.DESCRIPTOR.services_by_name[name].full_name
        assert {(m.name, m.input_type.full_name, m.output_type.full_name) for m in methods} <= {
            (m.name, m.input_type.full_name, m.output_type.full_name) for m in service.methods
        }


def test_both_versions_of_reflection_are_the_same() -> None:
    def source(version: str) -> str:
        return (PROTOS / f"reflection_{version}.proto").read_text().replace("v1alpha", "v1")

    assert source("v1") == source("v1alpha")


@pytest.mark.parametrize(
    ("datatype", "array"),
    [
        ("FP32", np.linspace(-1, 1, 24, dtype=np.float32).reshape(1, 2, 3, 4)),
        ("UINT8", np.arange(200, dtype=np.uint8).reshape(2, 100)),
        ("BYTES", np.array([[b"a picture"]], object)),
    ],
)
def test_a_request_has_the_bytes_that_tritonclient_makes(datatype: str, array: Any) -> None:
    tensor = InferInput("input", list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    output = InferRequestedOutput("output", class_count=5)
    parameters = {"note": "x"}
    known = _get_inference_request(
        "resnet50", [tensor], "1", "id-7", [output], 0, False, False, 0, None, parameters
    )
    request = pb.ModelInferRequest(
        model_name="resnet50",
        model_version="1",
        id="id-7",
        inputs=[
            pb.ModelInferRequest.InferInputTensor(
                name="input", datatype=datatype, shape=array.shape
            )
        ],
        raw_input_contents=list(known.raw_input_contents),
    )
    request.parameters["note"].string_param = "x"
    request.outputs.add(name="output").parameters["classification"].int64_param = 5
    assert request.SerializeToString() == known.SerializeToString()


@pytest.mark.parametrize("order", [0, 1], ids=["theirs-first", "ours-first"])
def test_both_copies_live_in_one_process(order: int) -> None:
    imports = [
        "import tritonclient.grpc; from tritonclient.grpc import service_pb2",
        "from corral_protos import open_inference_pb2 as pb",
    ]
    script = [*(imports if order == 0 else imports[::-1])]
    script += [
        "message = pb.ModelInferRequest(model_name='m', raw_input_contents=[b'x'])",
        "read = service_pb2.ModelInferRequest.FromString(message.SerializeToString())",
        "assert read.model_name == 'm' and read.raw_input_contents[0] == b'x'",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(script)], check=True)


def test_what_is_generated_is_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(corral_protos.__file__).parent
    source = package.parent / "generate.py"
    spec = importlib.util.spec_from_file_location("corral_protos_generate", source)
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    monkeypatch.setattr(generate, "OUT", tmp_path)
    # protoc looks for its plug-in, protoc-gen-mypy, beside this interpreter.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    generate.main()
    for name in ("open_inference_pb2.py", "open_inference_pb2.pyi"):
        assert (tmp_path / name).read_text() == (package / name).read_text(), (
            f"{name} is out of date; run `make protos`"
        )
