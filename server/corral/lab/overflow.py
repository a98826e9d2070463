"""INT8 for narrow sums and for wide ones, on this CPU: ``corral lab overflow --model MODEL``.

Makes INT8 as for a CPU without VNNI, with NNCF's overflow fix, and as for one with it, and compares
both with FP32 on the guard's pictures. With real weights each may leave layers in FP32.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.table import Table

from corral.accuracy import Fidelity, compare
from corral.artifacts import build
from corral.artifacts.served_model import boot_model
from corral.backends.registry import WIDE_SUMS
from corral.models import evaluation, registry
from corral.planning import topology
from corral.settings import BackendName, Precision, Settings
from corral.tuning import trial_worker
from corral.tuning.trial_worker import TrialOrder

#: an instruction that sums in 32 bits: with it among the flags, the fix is left out
_WIDE = frozenset({"avx512_vnni"})


def measure(settings: Settings, environ: Mapping[str, str]) -> dict[str, Fidelity]:
    """INT8 against FP32, by "on" and "off" of the fix.

    Args:
        settings: model, weights, cache; backend and precision are OpenVINO's.
        environ: this process's environment.

    Raises:
        ModelError: something cannot be prepared or run.
    """
    spec = registry.get(settings.model.name, settings.model.shape)
    cpus = sorted(os.sched_getaffinity(0))
    plain = topology.read_machine().isa - WIDE_SUMS
    logits = {}
    for name, precision, isa in (
        ("fp32", Precision.FP32, plain),
        ("on", Precision.INT8, plain),
        ("off", Precision.INT8, plain | _WIDE),
    ):
        wanted = Settings.flat(
            model=settings.model.name,
            weights=settings.model.weights,
            backend=BackendName.OPENVINO,
            precision=precision,
            cache_dir=settings.model.cache_dir,
            offline=settings.model.offline,
        )
        made = build.prepare(wanted, lambda step, share: None, isa)
        held_out = evaluation.held_out(spec, synthetic=made.synthetic)
        order = TrialOrder(
            settings=wanted, model=boot_model(made), signature=spec.signature, cpus=cpus
        )
        with trial_worker.start(order, environ) as trial:
            logits[name] = trial.answer(held_out.items(spec), spec.native)
    return {
        name: compare(logits["fp32"], logits[name], held_out.pictures) for name in ("on", "off")
    }


def render(model: str, found: Mapping[str, Fidelity]) -> Table:
    """A table of what was measured, to print."""
    table = Table(title=f"INT8 against FP32: {model}", box=SIMPLE_HEAD, title_justify="left")
    for heading in ("overflow fix", "SNR dB", "expected loss", "at most", "top-1"):
        table.add_column(heading, justify="right")
    for name, fidelity in found.items():
        shares = (fidelity.loss, fidelity.loss_most, fidelity.top1)
        cells = ("-" if share is None else f"{share:.2%}" for share in shares)
        table.add_row(name, f"{fidelity.snr_db:.1f}", *cells)
    return table
