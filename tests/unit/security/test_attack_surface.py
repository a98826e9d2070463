"""What the code itself must not contain: unpickling, and methods that change the server."""

from __future__ import annotations

import ast
import functools
import pickle
from pathlib import Path
from typing import Any

import pytest
from support.described import describe

from corral.errors import ModelError, NotFound, Unsupported
from corral.frontend.pages import Pages
from corral.models import loading
from corral.tensors import View
from corral_protos import open_inference_pb2 as pb

ROOT = Path(__file__).parents[3]
SOURCES = sorted(
    path
    for folder in ("server/corral", "client/corral_client", "protos/corral_protos")
    for path in (ROOT / folder).rglob("*.py")
)
#: modules that run what they read
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "yaml"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__", "system", "popen"}
#: pickle.UnpicklingError is what torch raises when it refuses to unpickle
PICKLE_NAMES = {("loading.py", "UnpicklingError")}
#: what runs code out of the cache folder, where only the server's own user writes (SECURITY.md)
CODE_OF_OURS = {
    ("backends/torch/build.py", "torch.export.load"),
    ("backends/torch/runtime.py", "torch.jit.load"),
    ("backends/torch/aot.py", "torch._inductor.aoti_load_package"),
}
#: what runs code out of the model file that the operator names (SECURITY.md)
CODE_OF_THE_OPERATOR = {
    ("backends/openvino/read.py", "torch.export.load"),
    ("backends/openvino/torch_scripts.py", "torch.jit.load"),
}


@functools.cache
def trees() -> list[tuple[Path, ast.Module]]:
    return [(path, ast.parse(path.read_text())) for path in SOURCES]


def test_nothing_is_unpickled() -> None:
    assert len(SOURCES) > 50
    faults = []
    for path, tree in trees():
        for node in ast.walk(tree):
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                names = {alias.name.partition(".")[0] for alias in node.names}
                if names & UNSAFE_MODULES and path.name != "loading.py":
                    faults.append(f"{where}: imports {names}")
            elif isinstance(node, ast.ImportFrom):
                if (node.module or "").partition(".")[0] in UNSAFE_MODULES:
                    faults.append(f"{where}: imports from {node.module}")
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                unsafe = node.value.id in UNSAFE_MODULES
                if unsafe and (path.name, node.attr) not in PICKLE_NAMES:
                    faults.append(f"{where}: {node.value.id}.{node.attr}")
    assert not faults


def test_files_are_loaded_as_weights_only_and_arrays_without_pickle() -> None:
    faults, seen = [], []
    for path, tree in trees():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            keywords = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
            where = f"{path.relative_to(ROOT)}:{node.lineno}"
            match node.func:
                case ast.Attribute(value=ast.Name(id="torch"), attr="load"):
                    seen.append("torch.load")
                    if keywords.get("weights_only") is not True:
                        faults.append(f"{where}: torch.load without weights_only=True")
                case ast.Attribute(value=ast.Name(id="np"), attr="load" | "loads"):
                    if keywords.get("allow_pickle", False) is not False:
                        faults.append(f"{where}: numpy.load that may unpickle")
                case ast.Attribute(attr="read_array"):
                    seen.append("read_array")
                    if keywords.get("allow_pickle") is not False:
                        faults.append(f"{where}: read_array that may unpickle")
                case ast.Name(id=name) if name in UNSAFE_CALLS:
                    faults.append(f"{where}: {name}()")
                case ast.Attribute(value=ast.Name(id="os"), attr=name) if name in UNSAFE_CALLS:
                    faults.append(f"{where}: os.{name}()")
    assert not faults
    # The walk must have met what it looks for, or it looks at nothing.
    assert {"torch.load", "read_array"} <= set(seen)


def test_code_is_loaded_in_few_places_and_no_other() -> None:
    found = set()
    for path, tree in trees():
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Attribute(attr=name) as function):
                    called = ast.unparse(function) if "load" in name.split("_") else ""
                    # torch.load itself has a test of its own.
                    if called.startswith("torch.") and called != "torch.load":
                        found.add(("/".join(path.parts[-3:]), called))
    assert found == CODE_OF_OURS | CODE_OF_THE_OPERATOR


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("form", ["plain", "torch"])
def test_weights_that_would_run_code_are_refused_in_one_line(tmp_path: Path, form: str) -> None:
    mark, weights = tmp_path / "mark", tmp_path / "weights.pth"
    if form == "plain":
        weights.write_bytes(pickle.dumps({"conv1.weight": Bomb(mark)}, protocol=2))
    else:
        torch = pytest.importorskip("torch")
        torch.save({"conv1.weight": Bomb(mark)}, weights)
    with pytest.raises(ModelError) as caught:
        loading.read_state(weights)
    assert "\n" not in str(caught.value)
    assert str(weights) in str(caught.value)
    assert not mark.exists()
    # The bomb does go off where nobody is careful: the test would see it.
    if form == "plain":
        pickle.loads(weights.read_bytes())
        assert mark.exists()


def test_no_method_loads_writes_or_configures() -> None:
    methods = {m.name for m in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods}
    pages = Pages(
        describe(),
        tuple(View),
        ready=lambda: True,
        counts=lambda: pytest.fail("nothing is counted"),
        memory=None,
    )
    assert methods == set(pages.methods()) | {"ModelInfer", "ModelStreamInfer"}
    for name in methods - {"RepositoryModelLoad", "RepositoryModelUnload"}:
        for verb in ("Load", "Unload", "Update", "Set", "Trace", "Log", "Write"):
            assert verb not in name.replace("ModelStatistics", "")

    def call(name: str, **fields: Any) -> Any:
        kind, page = pages.methods()[name]
        return page(kind(**fields))

    # What Triton's clients ask for is there, and changes nothing.
    call("RepositoryModelLoad", model_name="resnet50")
    config = {"config": pb.ModelRepositoryParameter(string_param="{}")}
    with pytest.raises(Unsupported):
        call("RepositoryModelLoad", model_name="resnet50", parameters=config)
    with pytest.raises(Unsupported):
        call("RepositoryModelUnload", model_name="resnet50")
    with pytest.raises(NotFound):
        call("RepositoryModelLoad", model_name="../etc/passwd")
    # Registering shared memory is Triton's extension: off, unless the operator asks for it.
    for name in ("SystemSharedMemoryRegister", "SystemSharedMemoryUnregister"):
        with pytest.raises(Unsupported, match="--client-shared-memory"):
            call(name)
    assert not call("SystemSharedMemoryStatus").regions
