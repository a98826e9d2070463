"""The zoo with torch: real labels for real pictures, checkpoints that fit and ones that do not."""

from __future__ import annotations

import functools
import hashlib
import http.server
import importlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from corral.errors import ModelError
from corral.images import decode as images
from corral.models import registry
from corral.models.labels import labels
from corral.models.pictures import draw_pictures, normalise
from corral.models.spec import ModelSpec
from corral.models.weights import Published, find_published

torch = pytest.importorskip("torch")

PICTURES = Path(__file__).parent.parent / "data" / "pictures"


def run(module: Any, spec: ModelSpec, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits [n,1000] of UINT8 pictures [n,224,224,3]."""
    with torch.inference_mode():
        logits = module(torch.from_numpy(normalise(pixels, spec.recipe)))
    return np.asarray(logits)


def photographs(spec: ModelSpec) -> NDArray[np.uint8]:
    """The cat and the coffee, as the model wants them."""
    encoded = [(PICTURES / name).read_bytes() for name in ("cat.jpg", "coffee.jpg")]
    return np.stack([images.decode(data, spec.recipe, 10**6) for data in encoded])


def build(spec: ModelSpec, choice: str, cache_dir: Path) -> Any:
    return spec.build(spec.find_weights(choice, cache_dir, True))


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return build(registry.get("resnet50"), "synthetic", tmp_path_factory.mktemp("cache"))


def test_finding_weights_imports_no_framework(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from corral.models import registry\n"
        "for name in registry.names():\n"
        "    for choice in ('auto', 'synthetic'):\n"
        "        registry.get(name).find_weights(choice, Path(sys.argv[1]), True)\n"
        "print(sorted({'torch', 'openvino', 'efficientnet_lite_pytorch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_efficientnet_lite0_knows_a_cat_and_a_coffee(tmp_path: Path) -> None:
    spec = registry.get("efficientnet_lite0")
    logits = run(build(spec, "auto", tmp_path), spec, photographs(spec))
    top = [[labels()[i] for i in np.argsort(-row)[:3]] for row in logits]
    assert top[0][0] in ("tiger cat", "Egyptian cat")  # 0.39 and 0.34
    assert set(top[0]) == {"tiger cat", "Egyptian cat", "tabby"}
    assert top[1][0] == "espresso"
    probability = np.exp(logits[1]) / np.exp(logits[1]).sum()
    assert probability.max() > 0.9


def test_resnet50_has_torchvisions_names_and_shapes(resnet: Any) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in resnet.state_dict().items()}
    assert len(shapes) == 320
    assert sum(parameter.numel() for parameter in resnet.parameters()) == 25_557_032
    assert list(shapes)[:3] == ["conv1.weight", "bn1.weight", "bn1.bias"]
    assert list(shapes)[-2:] == ["fc.weight", "fc.bias"]
    assert shapes["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    assert shapes["layer3.5.conv2.weight"] == (256, 256, 3, 3)
    assert shapes["layer4.2.bn3.running_var"] == (2048,)


@pytest.mark.parametrize(
    ("name", "tensors", "parameters", "some"),
    [
        (
            "mobilenet_v2",
            314,
            3_504_872,
            {
                "features.1.conv.1.weight": (16, 32, 1, 1),
                "features.17.conv.2.weight": (320, 960, 1, 1),
                "classifier.1.bias": (1000,),
            },
        ),
        (
            "inception_v3",
            580,
            27_161_264,
            {
                "Mixed_6b.branch7x7dbl_5.conv.weight": (192, 128, 1, 7),
                "Mixed_7c.branch3x3dbl_3b.bn.running_var": (384,),
                "AuxLogits.fc.weight": (1000, 768),
            },
        ),
    ],
)
def test_a_model_has_torchvisions_names_and_shapes(
    name: str, tensors: int, parameters: int, some: dict[str, tuple[int, ...]]
) -> None:
    """As torchvision 0.29 has them, whose answers with the same weights are the same, too."""
    module = importlib.import_module(f"corral.models.zoo.{name}")._network()
    shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    assert len(shapes) == tensors
    assert sum(parameter.numel() for parameter in module.parameters()) == parameters
    assert {key: shapes[key] for key in some} == some
    side = registry.get(name).recipe.crop
    with torch.inference_mode():
        assert module.eval()(torch.zeros(1, 3, side, side)).shape == (1, 1000)


def test_resnet50_is_v1_5(resnet: Any) -> None:
    for stage in (resnet.layer2, resnet.layer3, resnet.layer4):
        assert stage[0].conv1.stride == (1, 1)
        assert stage[0].conv2.stride == (2, 2)


def test_synthetic_weights_tell_pictures_apart(resnet: Any) -> None:
    spec = registry.get("resnet50")
    pixels = np.concatenate([draw_pictures(8, 77, 224), photographs(spec)])
    logits = run(resnet, spec, pixels)
    assert np.isfinite(logits).all()
    assert len(set(logits.argmax(1))) >= 6
    # Each picture's logits spread like a trained model's, and not in the same way.
    assert (logits.std(1) > 1).all()
    assert (logits.std(1) < 10).all()
    correlation = np.asarray(np.corrcoef(logits))
    assert correlation[np.triu_indices(len(logits), 1)].mean() < 0.4
    assert not any(layer.training for layer in resnet.modules())


@pytest.mark.long
def test_synthetic_weights_are_the_same_every_time(tmp_path: Path) -> None:
    spec = registry.get("efficientnet_lite0")
    one, other = (build(spec, "synthetic", tmp_path).state_dict() for _ in range(2))
    assert all(torch.allclose(one[name], other[name], rtol=1e-3, atol=1e-4) for name in one)


# --- checkpoints in files ---


@pytest.mark.parametrize("form", ["safetensors", "torch", "torch, old format"])
def test_a_checkpoint_survives_the_trip_through_a_file(
    form: str, resnet: Any, tmp_path: Path
) -> None:
    spec = registry.get("resnet50")
    state = {
        name: tensor
        for name, tensor in resnet.state_dict().items()
        # The checkpoints of 2017 have none.
        if not (form == "torch, old format" and name.endswith("num_batches_tracked"))
    }
    file = tmp_path / "mine"
    save(state, file, form)
    module = build(spec, str(file), tmp_path)
    assert all(torch.equal(module.state_dict()[name], state[name]) for name in state)
    assert not module.training


def save(state: dict[str, Any], file: Path, form: str) -> None:
    if form == "safetensors":
        import safetensors.torch

        safetensors.torch.save_file(state, file)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=form == "torch")


def without(state: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key != name}


def test_a_checkpoint_that_does_not_fit_names_the_first_fault(resnet: Any, tmp_path: Path) -> None:
    state = resnet.state_dict()
    faults = {
        "'layer1.0.conv1.weight' is missing": without(state, "layer1.0.conv1.weight"),
        "'extra.weight' is not a part of it": {**state, "extra.weight": torch.zeros(1)},
        "'fc.weight' has the shape [10, 2048], not [1000, 2048]": {
            **state,
            "fc.weight": torch.zeros(10, 2048),
        },
    }
    for words, wrong in faults.items():
        file = tmp_path / "wrong.pth"
        torch.save(wrong, file)
        message = refusal(file, tmp_path)
        assert words in message
        assert str(file) in message


def refusal(file: Path, cache_dir: Path) -> str:
    with pytest.raises(ModelError) as caught:
        build(registry.get("resnet50"), str(file), cache_dir)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Malice:
    """What a hostile checkpoint holds: unpickling it would run something."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.witness,)


def test_files_that_are_no_state_dict_are_refused_and_not_executed(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    file = tmp_path / "file.pth"
    torch.save({"state": Malice(witness)}, file)
    assert "could run code" in refusal(file, tmp_path)
    assert not witness.exists()
    torch.save([torch.zeros(1)], file)
    assert "not a state dict" in refusal(file, tmp_path)
    torch.save({"epoch": 3}, file)
    assert "a tensor for every name" in refusal(file, tmp_path)
    for content in (b"", b"hello", b"PK\3\4 but no archive", b"\x10\0\0\0\0\0\0\0{ no JSON at all"):
        file.write_bytes(content)
        assert f"--weights {file}: " in refusal(file, tmp_path)


# --- the download ---


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a folder, and the folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(_QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", folder
        server.shutdown()
        thread.join()


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_torch_hub_downloads_checks_and_caches(served: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = served
    content = b"a checkpoint" * 1000
    digest = hashlib.sha256(content).hexdigest()
    for name in (f"net-{digest[:8]}.pth", "net-00000000.pth"):
        (folder / name).write_bytes(content)

    def find(name: str) -> Any:
        published = Published(url=f"{address}/{name}", description="")
        return find_published("imagenet", tmp_path, False, model="net", published=published)

    found = find(f"net-{digest[:8]}.pth")
    assert found.path == tmp_path / "checkpoints" / f"net-{digest[:8]}.pth"
    assert found.path.read_bytes() == content
    with pytest.raises(ModelError, match="invalid hash value"):
        find("net-00000000.pth")
    with pytest.raises(ModelError, match="404"):
        find("net-11111111.pth")
    assert [file.name for file in found.path.parent.iterdir()] == [found.path.name]
