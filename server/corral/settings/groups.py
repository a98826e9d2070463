"""What is served, by what and where: groups of settings.

None means: the mode, the plan or a measurement decides.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from corral.accuracy import Thresholds
from corral.settings.kinds import (
    Allocator,
    BackendName,
    Decibels,
    Figure,
    Loss,
    Mode,
    Name,
    OpenmpSpin,
    Precision,
    Processes,
    ServedName,
    TorchMode,
)
from corral.settings.option import Group, option


class ModelSettings(Group, frozen=True, kw_only=True):
    """What is served, what for, and where its files lie."""

    TITLE: ClassVar[str] = "what to serve"

    mode: Annotated[
        Mode,
        option(
            "rti (real-time inference): every answer as soon as possible; throughput: as many "
            "answers as possible",
            live=True,
        ),
    ] = Mode.RTI
    name: Annotated[
        Name,
        option(
            "one of: {models}; or the path of a model file of your own (ONNX, OpenVINO IR, "
            "TensorFlow, TFLite, Paddle, PyTorch), or of a folder with one model below it",
            metavar="NAME",
            name="model",
            path=True,
        ),
    ] = "resnet50"
    shape: Annotated[
        tuple[Name, ...],
        option(
            "one item of an input of your own model, where its file leaves that open: "
            "input=3,224,224 (without the batch); once for each",
            metavar="NAME=SIZES",
            default="what the file says",
        ),
    ] = ()
    served_name: Annotated[
        ServedName | None,
        option(
            "what clients call the model",
            metavar="NAME",
            name="model_name",
            default="its name, or its file's",
        ),
    ] = None
    weights: Annotated[
        Name,
        option(
            "a file (safetensors or a state dict), imagenet, synthetic, or auto: cached weights, "
            "else downloaded ones, else synthetic ones",
            live=True,
            metavar="WEIGHTS",
            path=True,
        ),
    ] = "auto"
    cache_dir: Annotated[
        Name,
        option(
            "folder for artefacts and weights",
            metavar="DIR",
            default="$CORRAL_CACHE, else ~/.cache/corral, else one in /var/tmp",
            path=True,
        ),
    ] = ".cache/corral"
    offline: Annotated[
        bool,
        option("do not download weights (CORRAL_OFFLINE=1 does the same)", live=True),
    ] = False


class EngineSettings(Group, frozen=True, kw_only=True):
    """What runs the model."""

    TITLE: ClassVar[str] = "engine"

    backend: Annotated[
        BackendName,
        option(
            "the engine; auto measures the installed engines once and takes the fastest; null "
            "answers without computing, for tests of the data path",
            live=True,
        ),
    ] = BackendName.AUTO
    precision: Annotated[
        Precision,
        option("the arithmetic; auto takes the fastest that agrees with fp32", live=True),
    ] = Precision.AUTO
    torch_mode: Annotated[
        TorchMode,
        option(
            "how torch and ipex run the model; auto is compile for torch and traced for ipex",
            live=True,
        ),
    ] = TorchMode.AUTO
    worker_python: Annotated[
        Name | None,
        option(
            "Python interpreter of the workers, from an environment of their own (make ipex makes "
            "one)",
            live=True,
            metavar="PATH",
            default="the server's own",
            path=True,
        ),
    ] = None

    @property
    def is_searched(self) -> bool:
        """Whether measurements decide on engine or precision."""
        return self.backend is BackendName.AUTO or self.precision is Precision.AUTO


class AccuracySettings(Group, frozen=True, kw_only=True):
    """What a lower precision may cost, and the pictures that decide it."""

    TITLE: ClassVar[str] = "accuracy (what a lower precision must keep of fp32's answers)"
    PREFIX: ClassVar[str] = "accuracy_"

    loss: Annotated[
        Loss,
        option(
            "the most of fp32's accuracy that a lower precision may lose, by the 95 % bound",
            live=True,
            metavar="N%",
            unit="%",
            default="1%",
        ),
    ] = Thresholds().loss
    snr_db: Annotated[
        Decibels,
        option(
            "least signal-to-noise ratio of the logits where labels mean nothing (synthetic "
            "weights, no classes)",
            live=True,
            metavar="DB",
            unit="dB",
        ),
    ] = Thresholds().snr_db
    calibration: Annotated[
        Name | None,
        option(
            "pictures to calibrate int8 on, a folder or a CSV; at least 20",
            live=True,
            metavar="DIR",
            default="photographs that ship with corral",
            name="calibration",
            path=True,
        ),
    ] = None
    evaluation: Annotated[
        Name | None,
        option(
            "pictures to judge a lower precision on: a folder for each class, a CSV of file,label, "
            "or a folder without labels; at least 20",
            live=True,
            metavar="DIR",
            default="photographs that ship with corral",
            name="evaluation",
            path=True,
        ),
    ] = None

    @property
    def thresholds(self) -> Thresholds:
        """What passes the guard."""
        return Thresholds(loss=self.loss, snr_db=self.snr_db)


class PlacementSettings(Group, frozen=True, kw_only=True):
    """Which processes there are, and what memory they run on."""

    TITLE: ClassVar[str] = "placement"

    workers: Annotated[
        Processes | None,
        option(
            "number of worker processes", live=True, metavar="N", default="what the cores allow"
        ),
    ] = None
    cores_per_worker: Annotated[
        Processes | Literal["node"] | None,
        option(
            "physical cores of a worker, or node for a whole NUMA node",
            live=True,
            metavar="N",
            unit="cores",
            default="2 to 4",
        ),
    ] = None
    cells: Annotated[
        Processes | None,
        option("groups of workers with a gRPC front each", metavar="N", default="one a NUMA node"),
    ] = None
    front_us: Annotated[
        Figure | None,
        option(
            "CPU time that a request costs the frontend",
            metavar="US",
            unit="microseconds",
            default="as measured here",
        ),
    ] = None
    images_per_core_s: Annotated[
        Figure | None,
        option(
            "images that one core of the workers computes in a second",
            metavar="N",
            unit="images/s",
            default="as measured here",
        ),
    ] = None
    siblings_as_cores: Annotated[
        bool, option("give workers each CPU as a core, where a hypervisor hides cores", live=True)
    ] = False
    oversubscribe: Annotated[
        bool,
        option("let workers share CPUs (for tests with the null backend)", live=True),
    ] = False
    allocator: Annotated[Allocator, option("the workers' malloc", live=True)] = Allocator.TCMALLOC
    huge_pages: Annotated[
        bool,
        option(
            "ask for transparent huge pages in the workers, where malloc or torch can use them",
            live=True,
        ),
    ] = True

    openmp_spin_ms: Annotated[
        OpenmpSpin,
        option(
            "how long threads of an engine on libiomp5 spin for their next piece of work before "
            "they sleep (KMP_BLOCKTIME)",
            live=True,
            metavar="MS",
            unit="ms",
        ),
    ] = 1

    @property
    def memory(self) -> str:
        """The malloc, its pages and how threads wait, as keys of measurements name them."""
        usual = self.openmp_spin_ms == PlacementSettings().openmp_spin_ms
        spin = "" if usual else f", spin {self.openmp_spin_ms} ms"
        return f"{self.allocator.value}, huge pages {self.huge_pages}{spin}"
