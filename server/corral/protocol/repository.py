"""What a request to load a model asks for: what is served already, or a change.

Pure. Model Analyzer and others read a model's configuration and load the model with it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

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
    return bool(asked.name) and _agrees(asked, served)


def _agrees(asked: Any, served: Any) -> bool:
    """Whether all that ``asked`` says is so in ``served``: a message, a list, a map or a value.

    A message may say less: Model Analyzer leaves the batch sizes out.
    """
    if isinstance(asked, Message):
        return all(
            _agrees(value, getattr(served, field.name))
            and (field.message_type is None or field.is_repeated or served.HasField(field.name))
            for field, value in asked.ListFields()
        )
    if isinstance(asked, Mapping):
        return all(key in served and _agrees(value, served[key]) for key, value in asked.items())
    if isinstance(asked, Sequence) and not isinstance(asked, str):
        return len(asked) == len(served) and all(map(_agrees, asked, served))
    return bool(asked == served)
