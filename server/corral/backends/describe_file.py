"""What a model file takes and gives: ``python -m corral.backends.describe_file``, asked by models/.

The question comes on standard input and the answer goes to standard output, both as JSON.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import msgspec

from corral import extras
from corral.backends.registry import ENGINES
from corral.backends.telemetry import silence_telemetry
from corral.backends.thrown import explain
from corral.errors import CorralError
from corral.models.asking import Question, Reply
from corral.models.custom import weight_files
from corral.models.files import kind_of
from corral.models.linked_files import as_plain


def describe(question: Question) -> Reply:
    """The first engine's answer that has one; else what the first one said."""
    path = Path(question.path)
    kind = kind_of(path)
    rows = [row for row in ENGINES.values() if row.describer and kind in row.model_files]
    faults: list[str] = []
    for row in rows:
        if any(importlib.util.find_spec(package) is None for package in row.packages):
            faults.append(f"reading it takes {row.name.value}: {row.advice}")
            continue
        assert row.describer is not None
        try:
            reply: Reply = importlib.import_module(row.describer).describe(question)
        except CorralError as error:
            faults.append(str(error))
        except ImportError as error:
            faults.append(f"reading it takes the package {error.name}: {extras.install('torch')}")
        # Frameworks raise whatever they like; to a user it is one thing: this file, this reason.
        except Exception as error:
            faults.append(explain(error, row.name))
        else:
            return reply
    return Reply(error=faults[0] if faults else "no engine reads such a file")


@contextlib.contextmanager
def _readable(question: Question) -> Iterator[Question]:
    """The same question, of a copy where the file's weights lie behind links."""
    path = Path(question.path)
    with contextlib.ExitStack() as stack:
        if path.suffix == ".onnx":
            # Where nothing can be copied, an engine says what it does not read.
            with contextlib.suppress(OSError, CorralError):
                plain = as_plain(path, weight_files(path), Path(tempfile.gettempdir()))
                path = stack.enter_context(plain)
        yield msgspec.structs.replace(question, path=str(path))


def main() -> int:
    """Entry of the process."""
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    # What frameworks print belongs elsewhere.
    answers = os.dup(1)
    os.dup2(2, 1)
    silence_telemetry()
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _readable(question) as named:
            reply = describe(named)
    with os.fdopen(answers, "wb") as stream:
        stream.write(msgspec.json.encode(reply))
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # The interpreter's farewell would wait for an engine's threads.
    os._exit(code)
