"""The rungs: what each changes, and what the article measured there. Pure.

The article is "Optimizing PyTorch Model Inference on CPU" (Towards Data Science, 2025), on 4 vCPU
of a 4th generation Xeon with AMX. Its steps pile up; here too, each rung is the one below with one
thing changed, or one further down: `base` says which. Where the CPU has no BF16, the rungs above
that one stay in FP32.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from corral.backends.registry import engine
from corral.errors import ConfigError
from corral.settings import Allocator, BackendName, Precision, TorchMode

#: where and of what the article's figures are
ARTICLE_MACHINE = "4 vCPU of a Xeon with AMX"
ARTICLE_MODEL = "resnet50"
#: settings that each rung decides: one that a user names picks the rungs that have it
DECIDED = ("backend", "precision", "torch_mode", "allocator", "huge_pages")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rung:
    """One setting of corral's own worker.

    Attributes:
        key: short name, for --rungs and files.
        title: for people.
        change: what differs from the rung that it is built on.
        base: key of that rung; None for the baseline.
        backend: engine.
        torch_mode: how torch runs the module.
        precision: arithmetic.
        sizes: batch sizes to measure; the best counts.
        allocator: malloc.
        tuned: whether OpenMP's environment is corral's own, or the engine's defaults.
        huge_pages: whether malloc and torch ask for them.
        workers: processes that share the CPUs.
        article: images/s there for ResNet50; None where it has no such step.
    """

    key: str
    title: str
    change: str
    base: str | None = None
    backend: BackendName = BackendName.TORCH
    torch_mode: TorchMode = TorchMode.EAGER
    precision: Precision = Precision.FP32
    sizes: tuple[int, ...] = (1, 8)
    allocator: Allocator = Allocator.SYSTEM
    tuned: bool = False
    huge_pages: bool = False
    workers: int = 1
    article: float | None = None


def rungs(*, bf16: bool, model: str = ARTICLE_MODEL) -> list[Rung]:
    """All of them, from the ground up.

    Args:
        bf16: the CPU has BF16 arithmetic; else what follows that rung stays in FP32.
        model: any but the article's has no figures there.
    """
    eager = _eager_rungs(bf16=bf16)
    tuned, torch = _tuned_rungs(eager[-1])
    every = [*eager, *torch, *_engine_rungs(tuned, bf16=bf16)]
    if model != ARTICLE_MODEL:
        every = [dataclasses.replace(rung, article=None) for rung in every]
    return every


def _eager_rungs(*, bf16: bool) -> list[Rung]:
    """torch as it comes, then its memory format, arithmetic, malloc and pages."""
    eager = Rung(
        key="eager",
        title="PyTorch eager, batch 1",
        change="baseline",
        sizes=(1,),
        article=22.76,
    )
    batch = _above(eager, "batch", "batch 8", "batch 8", sizes=(1, 8), article=26.28)
    last = _above(
        batch,
        "channels-last",
        "channels_last",
        "memory format",
        torch_mode=TorchMode.CHANNELS_LAST,
        article=32.85,
    )
    amp = _above(
        last, "bf16", "autocast BF16", "arithmetic", precision=Precision.BF16, article=86.95
    )
    malloc = _above(
        amp if bf16 else last,
        "tcmalloc",
        "tcmalloc",
        "malloc",
        allocator=Allocator.TCMALLOC,
        article=117.54,
    )
    huge = _above(malloc, "huge-pages", "huge pages", "page size", huge_pages=True, article=117.54)
    return [eager, batch, last, amp, malloc, huge]


def _tuned_rungs(huge: Rung) -> tuple[Rung, list[Rung]]:
    """torch compiled in one way or another, above ``huge``; the tuned one, and all of them."""
    ipex = _above(
        huge,
        "ipex",
        "IPEX, traced and frozen",
        "ipex.optimize",
        backend=BackendName.IPEX,
        torch_mode=TorchMode.TRACED,
        article=159.31,
    )
    ipex_int8 = _above(
        ipex, "ipex-int8", "IPEX static INT8", "arithmetic", precision=Precision.INT8
    )
    ipex_compile = _above(
        ipex,
        "ipex-compile",
        "IPEX, torch.compile",
        "inductor instead of a trace",
        torch_mode=TorchMode.COMPILE,
        article=144.5,
    )
    traced = _above(huge, "traced", "traced, frozen", "oneDNN fusions", torch_mode=TorchMode.TRACED)
    compiled = _above(
        huge,
        "compile",
        "torch.compile",
        "inductor, freezing",
        torch_mode=TorchMode.COMPILE,
        article=133.36,
    )
    tuned = _above(
        compiled,
        "run-cpu",
        "OpenMP as run_cpu sets it",
        "threads, affinity, libiomp5",
        tuned=True,
        article=162.15,
    )
    two = _above(tuned, "workers", "2 workers", "processes", workers=2, article=169.4)
    pt2e = _above(
        tuned,
        "torch-int8",
        "INT8 by PT2E (torchao)",
        "arithmetic",
        precision=Precision.INT8,
        article=172.67,
    )
    return tuned, [ipex, ipex_compile, ipex_int8, traced, compiled, tuned, two, pt2e]


def _engine_rungs(tuned: Rung, *, bf16: bool) -> list[Rung]:
    """Other engines, with the environment of the ``tuned`` rung."""
    onnx = Rung(
        key="onnxruntime",
        title="ONNX Runtime",
        change="engine, and back to FP32" if bf16 else "engine",
        base=tuned.key,
        backend=BackendName.ONNXRUNTIME,
        allocator=Allocator.TCMALLOC,
        tuned=True,
        huge_pages=True,
        article=44.92,
    )
    onnx_int8 = _above(
        onnx, "onnxruntime-int8", "ONNX Runtime INT8", "arithmetic", precision=Precision.INT8
    )
    vino = Rung(
        key="openvino",
        title="OpenVINO",
        change="engine",
        base=tuned.key,
        backend=BackendName.OPENVINO,
        precision=Precision.BF16 if bf16 else Precision.FP32,
        allocator=Allocator.TCMALLOC,
        tuned=True,
        huge_pages=True,
        article=297.33,
    )
    nncf = _above(
        vino,
        "openvino-int8",
        "OpenVINO INT8 (NNCF)",
        "arithmetic",
        precision=Precision.INT8,
        article=482.46,
    )
    vino_two = _above(
        nncf, "openvino-int8-workers", "OpenVINO INT8, 2 workers", "processes", workers=2
    )
    return [onnx, onnx_int8, vino, nncf, vino_two]


def pick(
    every: Sequence[Rung], keys: Sequence[str], asked: Mapping[str, object] | None = None
) -> list[Rung]:
    """The rungs of these keys with these settings, in their own order; all of them without any.

    Args:
        every: there are.
        keys: of the wanted; all if empty.
        asked: of ``DECIDED``, what a user has named; ``auto`` leaves the choice.

    Raises:
        ConfigError: no such rung, with those there are.
    """
    known = [rung.key for rung in every]
    for key in keys:
        if key not in known:
            raise ConfigError(f"--rungs: no rung {key!r}; there are: {', '.join(known)}")
    chosen = [rung for rung in every if not keys or rung.key in keys]
    for name, wanted in (asked or {}).items():
        if wanted == "auto":
            continue
        found = [rung for rung in chosen if _of(rung, name) == wanted]
        if not found:
            raise ConfigError(_none_has(name, wanted, chosen, keys))
        chosen = found
    return chosen


def _of(rung: Rung, name: str) -> object:
    """A rung's own setting; None where its engine has no use for it."""
    if name == "torch_mode" and engine(rung.backend).torch_modes is None:
        return None
    return getattr(rung, name)


def _none_has(name: str, wanted: object, among: Sequence[Rung], keys: Sequence[str]) -> str:
    option = name.replace("_", "-")
    if isinstance(wanted, bool):
        asked = f"--{option}" if wanted else f"--no-{option}"
        others = ""
    else:
        asked = f"--{option} {wanted}"
        values = dict.fromkeys(
            str(_of(rung, name)) for rung in among if _of(rung, name) is not None
        )
        others = f"; there are: {', '.join(values)}" if values else ""
    of_these = f" of {','.join(rung.key for rung in among)}" if keys else ""
    return f"{asked}: no rung{of_these} has that{others}"


def _above(below: Rung, key: str, title: str, change: str, **changes: object) -> Rung:
    """A rung with something changed; the article's figure is its own."""
    changes.setdefault("article", None)
    named = {"key": key, "title": title, "change": change, "base": below.key}
    return dataclasses.replace(below, **named, **changes)  # type: ignore[arg-type]
