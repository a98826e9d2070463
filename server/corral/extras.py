"""The command that brings what corral needs and does not find: from where it was installed itself.

corral is on no package index: there, its name is anybody's. It needs nothing but Python.
"""

from __future__ import annotations

import shlex
from pathlib import Path


def install(*names: str, python: str = "") -> str:
    """The command for a shell, a part of a line.

    Args:
        names: extras of pyproject.toml.
        python: the interpreter that lacks them; "" where it goes without saying.
    """
    pip = f"{python} -m pip" if python else "pip"
    home, extras = checkout(), f"[{','.join(names)}]"
    if home is None:
        return f"{pip} install '.{extras}' in corral's checkout"
    lock = shlex.quote(str(home / "requirements.lock"))
    return f"{pip} install --constraint {lock} '{home}{extras}'"


def checkout() -> Path | None:
    """The folder that corral was installed from; None where it is not there any more."""
    beside = Path(__file__).resolve().parents[2]
    for folder in (beside, _origin()):
        if folder is not None and (folder / "requirements.lock").is_file():
            return folder
    return None


def _origin() -> Path | None:
    # Only those who lack something wait for these imports.
    import importlib.metadata
    import json
    import urllib.parse

    try:
        text = importlib.metadata.distribution("corral").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return None
    url = urllib.parse.urlsplit(json.loads(text)["url"] if text else "")
    return Path(urllib.parse.unquote(url.path)) if url.scheme == "file" else None
