"""INT8 of an ONNX file: onnxruntime's own static quantization (QDQ, weights per channel).

Ranges are measured once, on crops of photographs. Layers that cost too much stay in FP32:
backends/layer_search.py decides which.
"""

from __future__ import annotations

import functools
import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from corral.backends.layer_search import Judge, Quantized, within_thresholds
from corral.backends.onnxruntime.layers import layers, name_nodes
from corral.backends.onnxruntime.sessions import open_as_is
from corral.backends.onnxruntime.sorts import are_by_picture, cut_before_sorts
from corral.system.owned_folder import OwnedFolder

if TYPE_CHECKING:
    from corral.backends.job import BuildJob

#: by ONNX Runtime's names; numpy has no BF16
_FLOATS = frozenset({"tensor(float)", "tensor(float16)", "tensor(double)"})


def quantize(exact: Path, job: BuildJob) -> None:
    """Quantizes an FP32 ONNX file and writes what a job asks for."""
    logging.getLogger().setLevel(max(logging.getLogger().level, logging.INFO))
    with OwnedFolder("corral-quantize-") as owned:
        folder = owned.path
        pictures = job.pictures()
        quantizer = Quantizer(exact, folder, pictures)
        whole = quantizer.whole(reduce_range=job.narrow_sums)
        made = whole.model
        if not job.weights.synthetic:
            ways = [whole]
            if job.narrow_sums:
                ways.append(quantizer.whole(reduce_range=False))
            by_classes = job.spec.signature.by_classes
            run = _answers if by_classes else _sorted_answers
            judge = Judge(run, quantizer.ready, *pictures.judging(), by_classes=by_classes)
            made = within_thresholds(ways, judge, job)
        shutil.copyfile(made, job.file)


class Quantizer:
    """Quantizes one file in several ways, on ranges that were measured once.

    Args:
        exact: the file.
        folder: for what lies in between.
        pictures: what the model takes, a batch of one each: FP32 [1,3,crop,crop], normalised; or
            UINT8 [1,crop,crop,3].

    Attributes:
        ready: the file in FP32 as it is quantized: names inside it may be others than the file's.
    """

    def __init__(self, exact: Path, folder: Path, pictures: Iterable[NDArray[Any]]) -> None:
        from onnxruntime.quantization.shape_inference import quant_pre_process

        self._folder = folder
        self.ready = folder / "ready.onnx"
        quant_pre_process(str(exact), str(self.ready), skip_symbolic_shape=True)
        # What is left out is told by name.
        name_nodes(self.ready)
        self._reader = _reader(pictures, open_as_is(exact).get_inputs()[0].name)

    def whole(self, *, reduce_range: bool) -> Quantized[Path]:
        """All layers in INT8.

        Args:
            reduce_range: give weights 7 bits, so that sums of u8 x i8 products fit 16 bits.
        """
        bits = 7 if reduce_range else 8
        make = functools.partial(self._make, reduce_range=reduce_range)
        made = make(self._folder / f"bits{bits}.onnx", frozenset())
        return Quantized(
            f"weights of {bits} bits",
            made,
            lambda: layers(self.ready, made),
            {"FP32": lambda names: make(self._folder / "without.onnx", names)},
        )

    def _make(self, file: Path, left_out: frozenset[str], *, reduce_range: bool) -> Path:
        from onnxruntime import quantization

        ranges = self._folder / "ranges.json"
        quantization.quantize_static(
            str(self.ready),
            str(file),
            None if ranges.exists() else self._reader,
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            reduce_range=reduce_range,
            nodes_to_exclude=sorted(left_out),
            # Ranges by entropy would keep every activation of every picture in memory.
            calibrate_method=quantization.CalibrationMethod.MinMax,
            calibration_cache_path=ranges,
        )
        return file


def _answers(file: Path, inputs: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Each float output of a file, [n,...]."""
    return {
        name: np.stack([answer[0] for answer in answers])
        for name, answers in _rows(file, inputs).items()
    }


def _rows(file: Path, inputs: Sequence[NDArray[Any]]) -> dict[str, Sequence[NDArray[Any]]]:
    """Each float output's answer to each input, run as a worker would."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0].name
    names = [port.name for port in session.get_outputs() if port.type in _FLOATS]
    # Asked for none, a session answers with all.
    rows = [session.run(names, {source: item}) for item in inputs if names]
    return dict(zip(names, zip(*rows, strict=True), strict=True))


def _sorted_answers(file: Path, inputs: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The same of what its sorts take, where it has any."""
    with OwnedFolder("corral-quantize-") as folder:
        cut = cut_before_sorts(file, folder.path / "model.onnx")
        first = _rows(cut, inputs[:1]) if cut else {}
        if not are_by_picture([answer for (answer,) in first.values()]):
            cut = None
        return _answers(cut or file, inputs)


def _reader(pictures: Iterable[NDArray[Any]], name: str) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """One picture at a time."""

        def __init__(self) -> None:
            self._pictures: Iterator[NDArray[Any]] = iter(pictures)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            picture = next(self._pictures, None)
            return None if picture is None else {name: picture}

    return Reader()
