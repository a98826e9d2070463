"""Where and how candidates are tried."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from corral.accuracy import Thresholds
from corral.artifacts import build
from corral.artifacts.served_model import boot_model
from corral.artifacts.store import Artefact
from corral.backends.registry import resolve_mode
from corral.models import registry
from corral.models.spec import ModelSpec
from corral.planning import topology
from corral.planning.plan import PlannedWorker
from corral.settings import Settings
from corral.system.limits import memory_left
from corral.tuning.candidates import Candidate
from corral.tuning.trial_worker import TrialOrder

logger = logging.getLogger(__name__)

#: of FP32's accuracy: whoever allows so much to be lost may have meant a percentage
_LARGE_LOSS = 0.1
#: what frameworks of all candidates together may take in one process: 719 MB were seen of
#: EfficientNet-Lite0, which is small
_PREPARING_BYTES = 1500 * 10**6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """Where and how candidates are tried.

    Attributes:
        settings: of the server; backend and precision are replaced by each candidate's.
        pen: a worker's CPUs and memory node.
        environ: this process's environment.
        isa: the CPU's flags.
        cpu_model: the CPU's name.
        progress: told what is being done and the share of the whole, 0 to 1.
        apart: makes an artefact in a process of its own, which gives its memory back; used where
            memory is short. None: nothing does.
        references: FP32's answers by what decides them, so that it computes them once a search.
    """

    settings: Settings
    pen: PlannedWorker
    environ: Mapping[str, str]
    isa: frozenset[str]
    cpu_model: str
    progress: Callable[[str, float], None]
    apart: Callable[[Settings], object] | None = None
    references: dict[tuple[str, ...], dict[str, NDArray[Any]]] = dataclasses.field(
        default_factory=dict, compare=False, repr=False
    )

    def settings_for(self, candidate: Candidate) -> Settings:
        """The server's settings with a candidate's engine and precision."""
        return self.settings.replace(backend=candidate.backend, precision=candidate.precision)

    def title(self, candidate: Candidate) -> str:
        """Its name, with the mode that torch runs it in: "torch int8 compile".

        Raises:
            ConfigError: torch cannot run this precision in the mode that was asked for.
        """
        asked = self.settings.engine.torch_mode
        mode = resolve_mode(asked, candidate.backend, candidate.precision.value)
        return candidate.name if mode is None else f"{candidate.name} {mode.value}"

    def prepare(self, candidate: Candidate, begin: float, end: float) -> Artefact:
        """Its artefact; progress goes from ``begin`` to ``end``."""

        def progress(phase: str, share: float) -> None:
            if phase != build.READY:
                self.progress(f"{candidate.name}: {phase}", begin + share * (end - begin))

        settings = self.settings_for(candidate)
        left = memory_left()
        if self.apart is not None and left is not None and left < _PREPARING_BYTES:
            self.progress(f"{candidate.name}: prepare apart, for memory is short", begin)
            self.apart(settings)
        # What was made apart is found in the cache.
        return build.prepare(settings, progress, self.isa)

    @property
    def thresholds(self) -> Thresholds:
        """What passes the guard."""
        return self.settings.accuracy.thresholds

    @property
    def spec(self) -> ModelSpec:
        """The model."""
        return registry.get(self.settings.model.name, self.settings.model.shape)

    def order(self, candidate: Candidate, made: Artefact, sizes: Sequence[int]) -> TrialOrder:
        """A worker under trial, as it would serve."""
        return TrialOrder(
            settings=self.settings_for(candidate),
            model=boot_model(made),
            signature=self.spec.signature,
            cpus=self.pen.cpus,
            memory_node=self.pen.memory_node,
            sizes=sizes,
            datatype=self.spec.native,
        )


def make_bench(
    settings: Settings,
    pen: PlannedWorker,
    environ: Mapping[str, str],
    progress: Callable[[str, float], None],
    apart: Callable[[Settings], object] | None = None,
) -> Bench:
    """The bench of this machine; see Bench."""
    loss = settings.accuracy.loss
    if loss > _LARGE_LOSS:
        logger.warning(
            "--accuracy-loss: what loses up to %.0f %% of FP32's accuracy passes; "
            "with a percent sign it is a percentage, as in 0.5%%",
            100 * loss,
        )
    machine = topology.read_machine()
    return Bench(
        settings=settings,
        pen=pen,
        environ=environ,
        isa=machine.isa,
        cpu_model=machine.model_name,
        progress=progress,
        apart=apart,
    )
