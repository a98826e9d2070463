"""Compiled models are kept: a second start loads what the first one made of the graph.

Most of a compilation is passes over the graph, and none of them depends on the start: ResNet50 in
INT8 costs 0.49 s of CPU to compile and 0.10 s to load (Xeon with AMX, OpenVINO 2026.4), for each
size of each datatype. The engine exports the graph behind its passes, 0.6 MB, and takes the weights
from the artefact, which is mapped as before.

What is loaded is believed once it has answered a sample as the graph did that it was made of. What
cannot be read, loaded or believed is compiled as if it were not there; where nothing can be
written, every start compiles.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from corral.backends.thrown import THROWN
from corral.system import folders, procfs
from corral.system.ingredients import ingredients_key
from corral.system.whole_file import write_whole

if TYPE_CHECKING:
    import openvino

logger = logging.getLogger(__name__)

#: raise it whenever what is compiled, or how, changes; here or in runtime.py
FORMAT = 1
SUFFIX = ".blob"
_DEVICE = "CPU"
_DIGEST_BYTES = 32
#: an engine that exports weights, too, would fill the disk
_MOST_BYTES = 16 * 2**20
#: variables that change what the engine and its kernels do
_VARIABLES = ("OV_", "ONEDNN_", "DNNL_")


@dataclasses.dataclass(frozen=True)
class Graph:
    """A compiled model and what there is to know of it.

    Attributes:
        model: the engine's.
        refusing: whether values can make a run fail; see ``may_refuse``.
        passed: see ``of_64_bits``.
    """

    model: openvino.CompiledModel
    refusing: bool
    passed: list[tuple[int, int]]


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A file's content, behind its SHA-256; ``ingredients`` is all that decides it."""

    ingredients: dict[str, str]
    refusing: bool
    passed: list[tuple[int, int]]
    #: the answers to the sample
    sample: list[bytes]
    exported: bytes


class CompiledCache:
    """Compiled models of one artefact, a file each; workers that want the same share it.

    Args:
        core: the engine.
        folder: made when something is kept.
        artefact: the IR, whose weights lie beside it.
    """

    def __init__(self, core: openvino.Core, folder: Path, artefact: Path) -> None:
        import openvino as ov

        self._core = core
        self._folder = folder
        self._weights = artefact.with_suffix(".bin")
        self._base = {
            "format": str(FORMAT),
            # Its name holds the hash of what it was made of.
            "artefact": artefact.parent.name,
            "graph": hashlib.sha256(artefact.read_bytes()).hexdigest(),
            "weights": str(self._weights.stat().st_size if self._weights.exists() else 0),
            "engine": ov.get_version(),
            "cpu": str(core.get_property(_DEVICE, "FULL_DEVICE_NAME")),
            "flags": " ".join(sorted(procfs.cpu_flags())),
            **{name: os.environ[name] for name in os.environ if name.startswith(_VARIABLES)},
        }

    @staticmethod
    def properties(given: Mapping[str, Any]) -> dict[str, Any]:
        """What a model is compiled with so that it can be kept."""
        return {**given, "CACHE_MODE": "OPTIMIZE_SIZE"}

    def load(self, what: str, properties: Mapping[str, Any]) -> tuple[Graph, list[bytes]] | None:
        """What was kept of it, not believed yet, and its answers to the sample.

        None where there is nothing of use.

        Args:
            what: the datatype and the shapes.
            properties: that it is compiled with.
        """
        ingredients = self._ingredients(what, properties)
        try:
            kept = _read(self._file(ingredients))
            if kept.ingredients != ingredients:
                return None
            options = {**self.properties(properties), "WEIGHTS_PATH": str(self._weights)}
            model = self._core.import_model(io.BytesIO(kept.exported), _DEVICE, options)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, *THROWN) as error:
            logger.debug("what was compiled of %s is not used: %s", what, error)
            return None
        return Graph(model, kept.refusing, kept.passed), kept.sample

    def keep(
        self, what: str, properties: Mapping[str, Any], graph: Graph, sample: list[bytes]
    ) -> None:
        """Writes a compiled model, whole or not at all; where that cannot be, nothing is said.

        Args:
            what: the datatype and the shapes.
            properties: that it was compiled with, by way of ``properties``.
            graph: it.
            sample: its answers.
        """
        ingredients = self._ingredients(what, properties)
        stream = io.BytesIO()
        try:
            graph.model.export_model(stream)
            kept = _Kept(
                ingredients=ingredients,
                refusing=graph.refusing,
                passed=graph.passed,
                sample=sample,
                exported=stream.getvalue(),
            )
            content = msgspec.msgpack.encode(kept)
            if len(content) > _MOST_BYTES:
                return
            folders.make(self._folder)
            write_whole(self._file(ingredients), hashlib.sha256(content).digest() + content)
        except (OSError, *THROWN) as error:
            logger.debug("what was compiled of %s is not kept: %s", what, error)

    def _ingredients(self, what: str, properties: Mapping[str, Any]) -> dict[str, str]:
        given = {name: str(value) for name, value in properties.items()}
        return {**self._base, **given, "what": what}

    def _file(self, ingredients: dict[str, str]) -> Path:
        key = ingredients_key(ingredients)[:24]
        return self._folder / f"{ingredients['artefact']}-{key}{SUFFIX}"


def _read(file: Path) -> _Kept:
    """Raises OSError or ValueError, msgspec's among them: it is not there, or damaged."""
    data = file.read_bytes()
    digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("its content has changed")
    return msgspec.msgpack.decode(content, type=_Kept)
