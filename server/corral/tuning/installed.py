"""What engines need, and what of it is here: an image runs a model, and lacks what makes one."""

from __future__ import annotations

import importlib.util

from corral.artifacts import build
from corral.backends.registry import engine, packages
from corral.settings import Precision
from corral.tuning.bench import Bench
from corral.tuning.candidates import Candidate, candidates


def what_is_installed(bench: Bench) -> set[str]:
    """Importable packages that engines need; with those that only made what is cached already."""
    found = {name for name in packages() if _is_here(name)}
    if bench.spec.quantized:
        return found
    for option in candidates(
        bench.settings.engine.backend, Precision.AUTO, bench.isa, packages(), every=True
    ):
        if is_made_elsewhere(bench, option):
            found.update(_only_to_make(option))
    return found


def is_made_elsewhere(bench: Bench, option: Candidate) -> bool:
    """Whether what makes an option's artefact is not here, and the artefact is."""
    needs = engine(option.backend).needs(option.precision)
    only = {name for name in _only_to_make(option) if name in needs}
    absent = {name for name in needs if not _is_here(name)}
    return bool(absent) and absent <= only and build.is_made(bench.settings_for(option), bench.isa)


def _only_to_make(option: Candidate) -> tuple[str, ...]:
    form = engine(option.backend).artifact
    return form.only_to_make if form else ()


def _is_here(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
