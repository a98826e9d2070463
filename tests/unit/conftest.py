"""What several tests of the search need."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest
from support.machines import archive_root, check_plan, compose, composed

from corral.planning.plan import PlannedWorker
from corral.settings import Settings
from corral.tuning.bench import Bench

# An example that takes long tells of a busy machine; pytest's timeout tells of a slow test.
hypothesis.settings.register_profile("corral", deadline=None)
hypothesis.settings.load_profile("corral")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Where a search happens, with a cache of its own."""
    return Bench(
        settings=Settings.flat(weights="synthetic", cache_dir=str(tmp_path), offline=True),
        pen=PlannedWorker(id=0, cpus=[0], cores=1, memory_node=None, env={}),
        environ={},
        isa=frozenset({"avx2"}),
        cpu_model="a CPU",
        progress=lambda phase, share: None,
    )


__all__ = ["archive_root", "bench", "check_plan", "compose", "composed"]
