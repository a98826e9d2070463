"""What people hand over as pictures, and as inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corral_client import calls, pictures
from corral_client.codec import Tensor
from corral_client.errors import InvalidArgument


def raw(tensor: Tensor) -> bytes:
    return b"".join(tensor.parts)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "cat.jpg"
    path.write_bytes(b"jpeg")
    return path


def test_a_path_as_text_or_path_and_bytes_are_one_picture_each(picture: Path) -> None:
    given: list[pictures.Encoded] = [picture, str(picture), b"jpeg"]
    for one in given:
        tensor = pictures.load(one)
        assert pictures.is_single(one)
        assert (tensor.datatype, tensor.shape) == ("BYTES", (1, 1))
        assert raw(tensor) == b"\x04\0\0\0jpeg"


def test_paths_and_bytes_may_be_mixed_in_a_list(picture: Path) -> None:
    tensor = pictures.load([picture, b"png"])
    assert not pictures.is_single([picture, b"png"])
    assert tensor.shape == (2, 1)
    assert raw(tensor) == b"\x04\0\0\0jpeg\x03\0\0\0png"


def test_only_what_names_a_file_needs_the_disk(picture: Path) -> None:
    files: list[pictures.Pictures] = [picture, str(picture), [b"x", picture]]
    others: list[pictures.Pictures] = [b"x", [b"x"], np.zeros(3)]
    assert all(pictures.on_disk(given) for given in files)
    assert not any(pictures.on_disk(given) for given in others)


def test_an_array_of_one_item_gets_a_batch_dimension() -> None:
    item = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert pictures.is_single(item)
    tensor = pictures.load(item)
    assert (tensor.datatype, tensor.shape) == ("UINT8", (1, 2, 2, 3))
    assert raw(tensor) == item.tobytes()


def test_arrays_in_a_list_are_stacked_and_an_array_of_several_stays() -> None:
    batch = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    assert not pictures.is_single(batch)
    for several in (batch, list(batch)):
        tensor = pictures.load(several)
        assert (tensor.datatype, tensor.shape) == ("FP32", (2, 3, 2, 2))
        assert raw(tensor) == batch.tobytes()


ITEM = np.zeros((2, 2, 3), np.uint8)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "no picture in the list"),
        ([ITEM, b"x"], "send the two apart"),
        ([ITEM, np.zeros((3, 2, 2), np.uint8)], "one shape and one dtype"),
        ([ITEM, ITEM.astype(np.float32)], "one shape and one dtype"),
        ([1], "int is no picture"),
    ],
)
def test_what_cannot_be_one_request_is_refused(given: Any, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        pictures.load(given)


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        pictures.load(tmp_path / "none.jpg")


def test_infer_takes_arrays_as_they_are_and_encoded_pictures() -> None:
    assert calls.as_tensor(np.zeros((4, 2), np.float32)).shape == (4, 2)
    assert calls.as_tensor(b"x").shape == (1, 1)
    assert calls.as_tensor([b"x", b"y"]).shape == (2, 1)


def test_infer_does_not_take_a_path_for_content() -> None:
    path: Any = "cat.jpg"
    with pytest.raises(InvalidArgument, match="encoded pictures as bytes"):
        calls.as_tensor(path)
