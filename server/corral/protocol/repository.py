"""What a request to load a model asks for: what is served already, or a change.

Pure. Model Analyzer and others read a model's configuration and load the model with it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format

from corral_protos import open_inference_pb2 as pb

_CONFIG = "config"


def changes_nothing(
    parameters: Mapping[str, pb.ModelRepositoryParameter], served: pb.ModelConfig
) -> bool:
    """Whether a load with these parameters leaves the model as it is.

    Args:
        parameters: a RepositoryModelLoadRequest's: ``config``, JSON; files by their paths.
        served: the model's configuration.
    """
    if not parameters:
        return True
    return set(parameters) == {_CONFIG} and _is_served(parameters[_CONFIG].string_param, served)


def _is_served(text: str, served: pb.ModelConfig) -> bool:
    """Whether a configuration in JSON names the model, and says nothing that isn't so already."""
    try:
        asked = json_format.Parse(text, pb.ModelConfig())
    except json_format.ParseError:
        return False
    said = {field.name for field, _ in asked.ListFields()}
    same = pb.ModelConfig()
    same.CopyFrom(served)
    for field, _ in served.ListFields():
        # The generated types know the names one by one.
        name: Any = field.name
        if name not in said:
            same.ClearField(name)
    return "name" in said and asked == same
