"""torch.compile in the worker itself, for what cannot be compiled ahead of time.

What Intel's extension has laid out holds its weights in objects of its own, which no package takes,
so each start compiles. inductor's own cache of code is not kept: a worker that is killed while it
compiles leaves half a library in it, and every later start would stumble over that.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from corral.backends.torch.aot import check_compiler, for_programs
from corral.system import folders
from corral.system.owned_folder import OwnedFolder
from corral.system.process_group import end_with_us

if TYPE_CHECKING:
    import torch

#: batch sizes, in each datatype, that the module's code may be compiled for: torch's own limit is
#: 8, and what exceeds it runs uncompiled without a word
_MOST_FORMS = 64


def compiled(entry: Any, example: torch.Tensor) -> Callable[..., Any]:
    """The compiled form of a module for exactly this shape; it has run once.

    Args:
        entry: the module, in inference form.
        example: its input.

    Raises:
        PassingError: there is no C++ compiler, or no folder that programs can be loaded from.
    """
    check_compiler()
    import torch

    # Its pool of compilers would outlive the warm-up on the worker's cores.
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    torch._dynamo.config.recompile_limit = _MOST_FORMS
    forward: Callable[..., Any] = torch.compile(entry, dynamic=False)
    base = for_programs(folders.program_candidates(os.environ))
    # Once it has run, what was compiled is mapped and needs no names.
    code = OwnedFolder("corral-inductor-", base)
    with end_with_us(), code as folder, torch.inference_mode():
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder.path)
        forward(example)
    return forward
