"""Where several inputs and outputs lie in a region."""

from __future__ import annotations

import os

import numpy as np

from corral.ipc.region import Region, create_region, region_bytes
from corral.tensors import Datatype, Signature, TensorSpec

_SIGNATURE = Signature(
    {Datatype.BOOL: (5,)},
    (3,),
    None,
    inputs=(TensorSpec("a", Datatype.BOOL, (5,)), TensorSpec("b", Datatype.INT64, (2, 2))),
    outputs=(TensorSpec("c", Datatype.FP16, (3,)), TensorSpec("d", Datatype.FP64, ())),
)


def test_each_is_contiguous_aligned_and_apart_from_the_others() -> None:
    fd = create_region(_SIGNATURE, 7)
    assert os.fstat(fd).st_size == region_bytes(_SIGNATURE, 7)
    region = Region(fd, _SIGNATURE, 7)
    os.close(fd)
    arrays = [*region.all_inputs(Datatype.BOOL, 7), *region.all_outputs(7)]
    assert [array.shape for array in arrays] == [(7, 5), (7, 2, 2), (7, 3), (7,)]
    assert [array.dtype.name for array in arrays] == ["bool", "int64", "float16", "float64"]
    for number, array in enumerate(arrays):
        assert array.flags.c_contiguous
        assert array.ctypes.data % 64 == 0
        array[:] = number % 2 if array.dtype == bool else number
    assert [float(array.max()) for array in arrays] == [0, 1, 2, 3]
    assert [float(array.min()) for array in arrays] == [0, 1, 2, 3]


def test_a_smaller_batch_lies_at_the_same_place() -> None:
    fd = create_region(_SIGNATURE, 7)
    region = Region(fd, _SIGNATURE, 7)
    os.close(fd)
    large, small = region.all_inputs(Datatype.BOOL, 7), region.all_inputs(Datatype.BOOL, 2)
    large[1][:] = np.arange(28).reshape(7, 2, 2)
    assert small[1].tolist() == large[1][:2].tolist()
    region.touch(7)


def test_one_of_each_lies_where_it_always_lay() -> None:
    plain = Signature({Datatype.FP32: (3, 8, 8), Datatype.UINT8: (8, 8, 3)}, (10,))
    fd = create_region(plain, 4)
    region = Region(fd, plain, 4)
    os.close(fd)
    assert region.input_offset == 4096
    assert not region.input_places
    assert not region.output_places
