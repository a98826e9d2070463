"""What corral knows of an engine without importing it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Set
from typing import TYPE_CHECKING

from corral import extras
from corral.models.files import kind_of
from corral.settings import BackendName, Precision, TorchMode

if TYPE_CHECKING:
    from corral.models.spec import ModelSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """A precision of an engine.

    Attributes:
        packages: Python packages that it needs beyond the engine's own.
        runs_on: CPU flags of which one must be there; any CPU does if it is empty.
        pays_on: CPU flags of which one must be there for it to be worth measuring, where no
            precision was named; any CPU that runs it does if it is empty.
        quick: whether it is prepared in seconds; what takes minutes is measured only when it is
            asked for.
    """

    packages: tuple[str, ...] = ()
    runs_on: frozenset[str] = frozenset()
    pays_on: frozenset[str] = frozenset()
    quick: bool = False

    def suits(self, isa: Set[str], *, named: bool) -> bool:
        """Whether a CPU with these flags runs it, and is worth measuring unless it was named."""
        flags = self.runs_on if named else self.pays_on or self.runs_on
        return not flags or bool(flags & isa)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArtifactForm:
    """What an engine loads.

    Attributes:
        engine: whose it is; engines that share an artefact name the same one.
        format: raise it whenever the builder writes something else: artefacts of before are not
            used then.
        reading: raise it whenever the builder reads users' files otherwise, or some that it refused
            before: the zoo's artefacts stay.
        made_with: distributions whose versions decide the content.
        quantized_with: more of them, for INT8.
        files: its files, the first one first.
        int8_files: the same, for INT8.
        searches: whether the builder of INT8 goes by the guard's thresholds.
        leaves_out_in_bf16: whether layers that it leaves out can run in BF16, where the CPU can.
        only_to_make: packages that make one, and that no worker needs.
    """

    engine: str
    format: int
    made_with: tuple[str, ...]
    quantized_with: tuple[str, ...]
    files: tuple[str, ...]
    int8_files: tuple[str, ...]
    searches: bool = False
    leaves_out_in_bf16: bool = False
    reading: int = 2
    only_to_make: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TorchModes:
    """How an engine on torch can run a module.

    Attributes:
        preferred: what AUTO means; INT8 runs in no other.
        allowed: those that FP32 and BF16 run in.
        unsearched: those that no search tries: each of their starts compiles for minutes.
    """

    preferred: TorchMode
    allowed: tuple[TorchMode, ...]
    unsearched: tuple[TorchMode, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Engine:
    """A row of the registry: one engine.

    Attributes:
        name: as the options say it.
        runtime: "module:class" of its Backend, imported in the worker only.
        profiler: "module:class" of its Profiler: the runtime with its counters on; None:
            it has none.
        builder: module with ``write(job)``, imported only to make an artefact; None: it needs none.
        distribution: the Python distribution whose version is the engine's.
        revision: raise it whenever the runtime changes what it answers or how long it takes: what
            was measured before is measured again.
        packages: importable packages that it needs in every precision.
        arithmetic: its precisions, FP32 first; empty where nothing is computed.
        artifact: what it loads; None: nothing.
        model_files: kinds of users' model files that it takes, as models.files has them.
        ports: whether it takes several inputs and outputs, of any datatype; see base.PortsBackend.
        describer: module with ``describe(question)``, imported only to look into a user's file;
            None: it is not asked.
        sorts: module with ``write_before_sorts(artefact, signature, folder)``, imported only to
            judge a model that sorts its answers; None: its outputs are judged.
        writes_code: whether it cannot run without writing machine code of its own.
        keeps_code: the cache's folder for what it compiles, "inductor"; empty: it keeps nothing.
        needs_code: whether that takes minutes, so that no start can do without what was kept.
        obeys_openmp: whether it computes on an OpenMP runtime; others bring threads of their own.
        torch_modes: how it runs a module; None: it does not run on torch.
        remedy: what brings it where it is missing; empty: pip, and the extra of its name.
    """

    name: BackendName
    runtime: str
    distribution: str
    revision: int
    profiler: str | None = None
    builder: str | None = None
    packages: tuple[str, ...] = ()
    arithmetic: Mapping[Precision, Arithmetic] = dataclasses.field(default_factory=dict)
    artifact: ArtifactForm | None = None
    model_files: tuple[str, ...] = ()
    ports: bool = False
    describer: str | None = None
    sorts: str | None = None
    writes_code: bool = False
    keeps_code: str = ""
    needs_code: bool = False
    obeys_openmp: bool = False
    torch_modes: TorchModes | None = None
    remedy: str = ""

    @property
    def computes(self) -> bool:
        """Whether it computes at all; what does not serves tests of the data path."""
        return bool(self.arithmetic)

    @property
    def advice(self) -> str:
        """What brings the engine where it is not installed."""
        return self.remedy or extras.install(self.name)

    def needs(self, precision: Precision) -> tuple[str, ...]:
        """Importable packages that a precision needs, the engine's own first."""
        found = self.arithmetic.get(precision)
        return self.packages + (found.packages if found else ())

    def takes(self, spec: ModelSpec) -> bool:
        """Whether it runs this model, by its file's kind and its inputs and outputs."""
        if spec.file is None:
            return True
        return kind_of(spec.file) in self.model_files and (self.ports or spec.signature.plain)
