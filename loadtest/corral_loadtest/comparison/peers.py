"""The servers that corral is compared with: what they are, and how each is installed and started.

Their start scripts and pinned requirements lie in ``loadtest/peers``; every peer lives in an
environment of its own. ``corral-loadtest peers install`` installs them all.
"""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from corral_loadtest.command_line import Parser, shown

SCRIPTS = Path(__file__).parents[2] / "peers"
HOME = Path(".cache/peers")


class Unavailable(RuntimeError):
    """A peer cannot be installed or started here; the text says why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peer:
    """A server that somebody else wrote.

    Attributes:
        name: on the command line, of its folder and of its files in ``loadtest/peers``.
        title: for people.
        package: the distribution whose version is reported.
        path: of its HTTP endpoint; None where it speaks the Open Inference Protocol over gRPC.
        body: of its HTTP endpoint, "raw" bytes or "base64" in JSON.
        note: what differs from the others, and patches.
    """

    name: str
    title: str
    package: str
    path: str | None = None
    body: str = "raw"
    note: str = ""

    @property
    def protocol(self) -> str:
        """What it is driven with, for people."""
        if self.path is None:
            return "gRPC, Open Inference Protocol"
        return "HTTP/1.1, bytes" if self.body == "raw" else "HTTP/1.1, base64 in JSON"

    @property
    def requirements(self) -> Path:
        """Its pinned requirements."""
        return SCRIPTS / "requirements" / f"{self.name}.txt"


PEERS = (
    Peer(
        name="triton",
        title="Triton",
        package="nvidia-pytriton",
        note="Python backend, dynamic batcher without delay",
    ),
    Peer(
        name="mlserver",
        title="MLServer",
        package="mlserver",
        note="parallel workers, adaptive batching of at most 1 ms (0 would turn it off)",
    ),
    Peer(
        name="torchserve",
        title="TorchServe",
        package="torchserve",
        path="/predictions/resnet50",
        note="a handler around OpenVINO; batch delay 1 ms; needs Java",
    ),
    Peer(
        name="bentoml",
        title="BentoML",
        package="bentoml",
        path="/raw/infer",
        note="an ASGI route, since its own bodies are JSON, forms and pickle; no batching there",
    ),
    Peer(
        name="litserve",
        title="LitServe",
        package="litserve",
        path="/predict",
        body="base64",
        note="its bodies are JSON and forms; batching without delay",
    ),
    Peer(
        name="mosec",
        title="mosec",
        package="mosec",
        path="/inference",
        note="batching, at most 1 ms",
    ),
    Peer(
        name="ray",
        title="Ray Serve",
        package="ray",
        path="/infer",
        note="HTTP proxy, @serve.batch without delay",
    ),
)
BY_NAME = {peer.name: peer for peer in PEERS}


def install(peer: Peer, home: Path = HOME) -> Path:
    """Makes the peer's environment unless it is there as pinned; returns its interpreter.

    Raises:
        Unavailable: pip refused, or the machine lacks what the peer needs.
    """
    folder = home / peer.name
    python = folder / "bin" / "python"
    stamp = folder / "installed.sha256"
    wanted = hashlib.sha256(peer.requirements.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text("utf-8") == wanted:
        return python.absolute()
    print(f"installing {peer.title} into {folder}", file=sys.stderr)
    steps: tuple[list[str | Path], ...] = (
        [sys.executable, "-m", "venv", folder],
        [python, "-m", "pip", "install", "--quiet", "--requirement", peer.requirements],
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise Unavailable(f"{peer.title} cannot be installed: {last}")
    stamp.write_text(wanted, "utf-8")
    return python.absolute()


def version(peer: Peer) -> str:
    """As its requirements pin it."""
    return pinned(peer.requirements.read_text("utf-8"), peer.package)


def pinned(requirements: str, package: str) -> str:
    """The version of a package in the text of a requirements file.

    Raises:
        ValueError: it is not pinned there.
    """
    for line in requirements.splitlines():
        name, _, found = line.partition("==")
        if name.strip().lower() == package:
            return found.split(";")[0].strip()
    raise ValueError(f"{package} is not pinned")


def command(
    peer: Peer, python: Path, *, model: str, port: int, workers: int, threads: int, home: Path
) -> list[str]:
    """What starts a peer.

    Args:
        peer: which.
        python: of its environment.
        model: path of the artefact's XML.
        port: of 127.0.0.1.
        workers: engines.
        threads: of each.
        home: folder of the environments; what the peer writes goes below it.
    """
    folder = (home / "run" / peer.name).absolute()
    return [
        str(python), str(SCRIPTS / f"{peer.name}_server.py"), "--model", model,
        "--port", str(port), "--workers", str(workers), "--threads", str(threads),
        "--folder", str(folder),
    ]  # fmt: skip


def parser() -> Parser:
    """The command line."""
    found = Parser(
        prog="corral-loadtest peers", description="Installs the servers that are compared with."
    )
    found.add_argument("action", choices=["install", "list"])
    found.add_argument("names", nargs="*", default=list(BY_NAME), metavar="NAME")
    found.add_argument("--home", type=Path, default=HOME, help="folder of the environments")
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Entry of the command: installs peers; exit code 1 if one cannot be."""
    words = parser()
    options = words.parse_args(argv)
    if unknown := [name for name in options.names if name not in BY_NAME]:
        words.error(f"no such peer: {shown(unknown[0])}; there are {', '.join(BY_NAME)}")
    failed = False
    for name in options.names:
        peer = BY_NAME[name]
        print(f"{peer.title} {version(peer)}: {peer.protocol}")
        if options.action == "install":
            try:
                install(peer, options.home)
            except Unavailable as error:
                failed = True
                print(error, file=sys.stderr)
    sys.exit(failed)
