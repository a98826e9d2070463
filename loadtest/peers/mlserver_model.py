"""MLServer's model: the engine as its runtime."""

from __future__ import annotations

import numpy as np
from engine import Engine
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class ResNet50(MLModel):  # type: ignore[misc]
    """Loads the artefact that the settings name."""

    async def load(self) -> bool:
        """Compiles the model."""
        parameters = self.settings.parameters
        self._engine = Engine(parameters.uri, parameters.extra["threads"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Runs a batch."""
        items = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32, copy=False)
        output = NumpyCodec.encode_output("output", self._engine.infer(items))
        return InferenceResponse(model_name=self.name, outputs=[output])
