from __future__ import annotations

import json

import pytest
from google.protobuf import json_format

from corral.protocol.repository import changes_nothing
from corral_protos import open_inference_pb2 as pb

SERVED = pb.ModelConfig(
    name="m",
    backend="null",
    max_batch_size=8,
    input=[pb.ModelInput(name="input", data_type=pb.TYPE_FP32, dims=[3, 4, 4])],
    output=[pb.ModelOutput(name="output", data_type=pb.TYPE_FP32, dims=[10])],
    dynamic_batching=pb.ModelDynamicBatching(preferred_batch_size=[1, 2]),
    parameters={"mode": pb.ModelParameter(string_value="rti")},
)
WHOLE = json_format.MessageToDict(SERVED, preserving_proto_field_name=True)


def loads(config: object) -> bool:
    text = config if isinstance(config, str) else json.dumps(config)
    return changes_nothing({"config": pb.ModelRepositoryParameter(string_param=text)}, SERVED)


def test_without_parameters_nothing_changes() -> None:
    assert changes_nothing({}, SERVED)


@pytest.mark.parametrize(
    "config",
    [
        WHOLE,
        {"name": "m"},
        {"name": "m", "max_batch_size": 8},
        {"name": "m", "maxBatchSize": "8"},
        {key: value for key, value in WHOLE.items() if key != "parameters"},
        # Model Analyzer leaves the batch sizes out, and so says nothing of them.
        {**WHOLE, "dynamic_batching": {}},
        {**WHOLE, "input": [{"name": "input"}]},
        {**WHOLE, "parameters": {}},
    ],
)
def test_a_configuration_that_says_what_is_served_changes_nothing(config: object) -> None:
    assert loads(config)


@pytest.mark.parametrize(
    "config",
    [
        {},
        "",
        "[",
        "null",
        "[]",
        "{" * 5000,
        '{"a":' * 5000,
        {"max_batch_size": 8},
        {"name": "other"},
        {**WHOLE, "max_batch_size": 4},
        {**WHOLE, "instance_group": [{"count": 2}]},
        {**WHOLE, "dynamic_batching": {"preferred_batch_size": [1]}},
        {**WHOLE, "dynamic_batching": {"max_queue_delay_microseconds": 5}},
        {**WHOLE, "input": [{"name": "inputs"}]},
        {**WHOLE, "input": [{"name": "input", "dims": [3, 4]}]},
        {**WHOLE, "parameters": {"more": {"string_value": "x"}}},
        {**WHOLE, "model_transaction_policy": {}},
        {**WHOLE, "input": [*WHOLE["input"], {"name": "more"}]},
        {**WHOLE, "parameters": {"mode": {"string_value": "throughput"}}},
        {**WHOLE, "something_new": 1},
        {**WHOLE, "max_batch_size": 2**40},
        "\ud800",
    ],
)
def test_another_configuration_is_a_change(config: object) -> None:
    if config == "\ud800":
        config = json.dumps({"name": "m\ud800"})
    assert not loads(config)


@pytest.mark.parametrize("name", ["file:1/model.onnx", "anything"])
def test_any_other_parameter_is_a_change(name: str) -> None:
    config = pb.ModelRepositoryParameter(string_param=json.dumps(WHOLE))
    assert not changes_nothing({name: pb.ModelRepositoryParameter(bytes_param=b"x")}, SERVED)
    assert not changes_nothing({"config": config, name: pb.ModelRepositoryParameter()}, SERVED)
