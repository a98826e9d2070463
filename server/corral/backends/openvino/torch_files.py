"""What PyTorch wrote into a file, told by what lies in it: suffixes say little of that."""

from __future__ import annotations

import zipfile
from pathlib import Path

from corral.errors import ModelError

#: what lies in an archive of each kind that holds a network, and the suffix that corral knows it by
_SCRIPT = ("constants.pkl", ".pt", "TorchScript")
_PROGRAM = ("archive_format", ".pt2", "an exported program")
_WEIGHTS = "data.pkl"


def check_torch_file(path: Path) -> None:
    """Looks whether a .pt or .pt2 file holds the network that its suffix stands for.

    Raises:
        ModelError: it holds another kind's, or weights alone; one line with the way out.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as stream:
            # A pickle, as torch.save wrote them before 1.6.
            pickled = stream.read(1) == b"\x80"
        if pickled:
            raise ModelError(_no_network(path))
        raise ModelError(
            "it is no archive of PyTorch's: it is empty, cut or of another kind; copy it again, or "
            f"save the network by {exporting(path)}"
        )
    with zipfile.ZipFile(path) as archive:
        names = {name.partition("/")[2] for name in archive.namelist()}
    kinds = [kind for kind in (_SCRIPT, _PROGRAM) if kind[0] in names]
    if not kinds and _WEIGHTS in names:
        raise ModelError(_no_network(path))
    for _, suffix, what in kinds:
        # .pth, .ts and .torchscript are TorchScript's, too.
        if (suffix == ".pt2") is not (path.suffix == ".pt2"):
            raise ModelError(f"it holds {what}: call it {path.stem}{suffix}")


def _no_network(path: Path) -> str:
    return (
        "it holds weights or a pickled module, as torch.save writes them, and no network; save "
        f"that by {exporting(path)}"
    )


def exporting(path: Path) -> str:
    """The line of Python that saves a network so that it is read."""
    return f"torch.export.save(torch.export.export(module, (example,)), '{path.stem}.pt2')"
