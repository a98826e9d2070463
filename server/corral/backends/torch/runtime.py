"""torch on a worker's own cores, plain or with Intel's extension (IPEX).

The region's arrays are the input tensor itself; the result is copied into the region, for torch
has no way to choose where an output lies (4 KB a picture). See inductor.py for what is compiled.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from corral.backends.code_folder import code_folder
from corral.backends.registry import resolve_mode
from corral.backends.torch import build as artefacts
from corral.backends.torch import jit
from corral.backends.torch.aot import PackageCache
from corral.errors import CorralError, ModelError, PassingError
from corral.ipc.messages import WorkerBoot
from corral.models import registry
from corral.models.spec import ModelSpec, Recipe
from corral.settings import BackendName, TorchMode
from corral.tensors import Datatype

if TYPE_CHECKING:
    import torch


class TorchBackend:
    """Runs a module of the zoo: FP32 [n,3,h,w] or UINT8 [n,h,w,3] in, FP32 [n,classes] out."""

    def __init__(self) -> None:
        self._runs: dict[tuple[Datatype, int], Callable[[], None]] = {}
        self._net: Any = None
        self._spec: ModelSpec
        self._packages: PackageCache
        self._file = ""
        self._mode = TorchMode.EAGER
        self._precision = ""
        self._threads = 0
        self._ipex = False

    def load(self, boot: WorkerBoot) -> None:
        """Reads the module; settles threads before torch computes anything.

        Raises:
            ConfigError: a mode that the precision cannot run in.
            ModelError: the artefact cannot be read.
        """
        settings = boot.settings
        self._ipex = settings.engine.backend is BackendName.IPEX
        self._precision = boot.model.precision
        mode = resolve_mode(settings.engine.torch_mode, settings.engine.backend, self._precision)
        self._mode = mode or TorchMode.EAGER
        if self._ipex:
            artefacts.import_ipex()
        import torch

        torch.set_num_threads(boot.threads)
        # torch refuses a second time, in a process that has run something.
        if torch.get_num_interop_threads() != 1:
            torch.set_num_interop_threads(1)
        torch.set_flush_denormal(True)
        torch.set_grad_enabled(False)
        self._threads = boot.threads
        if boot.model.artefact is None:
            raise ModelError(f"the {settings.engine.backend} backend needs an artefact")
        self._spec = registry.get(settings.model.name, settings.model.shape)
        self._file = boot.model.artefact
        # The artefact's folder is named after a hash of all that is in it.
        ingredients = [str(Path(self._file).parent.name), self._precision]
        folder = code_folder(settings)
        assert folder
        self._packages = PackageCache(folder, ingredients)
        if self._mode is not TorchMode.COMPILE:
            self._module()

    def _module(self) -> Any:
        """The artefact's module, read when it is first needed."""
        if self._net is None:
            try:
                self._net = self._read(self._file)
            except (RuntimeError, OSError, ValueError) as error:
                reason = str(error).strip().splitlines()[0]
                raise ModelError(f"the artefact {self._file} cannot be read: {reason}") from None
        return self._net

    def _read(self, file: str) -> Any:
        import torch

        if self._precision == "int8":
            if self._ipex:
                return torch.jit.load(file)
            return artefacts.read_pt2e(file)
        net = artefacts.read_state(self._spec, file)
        if self._mode is not TorchMode.EAGER:
            net = net.to(memory_format=torch.channels_last)
        if self._ipex:
            import intel_extension_for_pytorch as ipex

            half = torch.bfloat16 if self._precision == "bf16" else torch.float32
            net = ipex.optimize(net, dtype=half, inplace=True)
        return net

    def compile(
        self,
        datatype: Datatype,
        inputs: NDArray[np.generic],
        outputs: NDArray[np.float32],
    ) -> None:
        """Readies batches of exactly ``len(inputs)``: traces or compiles, and runs once.

        Raises:
            ModelError: torch refuses the model at this shape.
            PassingError: no compiler, no memory, or no room on the disk.
        """
        import torch

        source, target = torch.from_numpy(inputs), torch.from_numpy(outputs)

        def entry() -> Any:
            channels_last = self._mode is not TorchMode.EAGER
            return _entry(self._module(), self._spec.recipe, datatype, channels_last)

        try:
            with self._casting():
                forward = self._forward(entry, source)
        except CorralError:
            raise
        # A compiler runs here: torch, inductor and a C++ compiler each raise their own errors.
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            kind = PassingError if isinstance(error, (OSError, MemoryError)) else ModelError
            raise kind(
                f"torch cannot ready the model for {datatype.name} {list(inputs.shape)} "
                f"({self._mode.value}): {reason}"
            ) from error

        def run() -> None:
            with torch.inference_mode(), self._casting():
                target.copy_(forward(source))

        self._runs[datatype, len(inputs)] = run

    def _forward(self, entry: Callable[[], Any], source: torch.Tensor) -> Any:
        import torch

        if self._mode is TorchMode.COMPILE:
            if self._ipex:
                return jit.compiled(entry(), source)
            return self._packages.load(entry, source)
        if self._mode is TorchMode.TRACED:
            return torch.jit.freeze(torch.jit.trace(entry(), source, check_trace=False))
        return entry()

    @contextlib.contextmanager
    def _casting(self) -> Iterator[None]:
        """BF16 by autocast, where that is the precision."""
        import torch

        # A frozen trace keeps the casts that it was traced with.
        with torch.autocast(
            "cpu", torch.bfloat16, enabled=self._precision == "bf16", cache_enabled=False
        ):
            yield

    def run(self, datatype: Datatype, count: int) -> None:
        """Runs the batch that lies in the input array; the logits are in the output array then."""
        self._runs[datatype, count]()

    def discard(self, datatype: Datatype, count: int) -> None:
        """Forgets a batch size."""
        del self._runs[datatype, count]

    def describe(self) -> dict[str, str]:
        """Engine, version, precision, mode and threads."""
        import torch

        version = torch.__version__.partition("+")[0]
        if self._ipex:
            import intel_extension_for_pytorch as ipex

            version = f"{ipex.__version__.partition('+')[0]} on torch {version}"
        return {
            "engine": "ipex" if self._ipex else "torch",
            "version": version,
            "precision": self._precision,
            "mode": self._mode.value,
            "threads": str(torch.get_num_threads()),
        }


def _entry(net: Any, recipe: Recipe, datatype: Datatype, channels_last: bool) -> Any:
    """The module that takes what lies in the region: pixels are normalised in the graph."""
    import torch

    class Entry(torch.nn.Module):  # type: ignore[misc]
        """Normalise if pixels, lay out, run."""

        def __init__(self) -> None:
            super().__init__()
            self.net = net
            shape = (1, 3, 1, 1)
            self.register_buffer("mean", torch.tensor(recipe.mean).reshape(shape))
            self.register_buffer("std", torch.tensor(recipe.std).reshape(shape))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if datatype is Datatype.UINT8:
                x = (x.permute(0, 3, 1, 2).float() - self.mean) / self.std
            form = torch.channels_last if channels_last else torch.contiguous_format
            y = self.net(x.contiguous(memory_format=form))
            return y.float()

    entry = Entry()
    # Exported programs have no eval(): they are made for inference.
    entry.training = False
    return entry
