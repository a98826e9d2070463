"""Inception v3, with torchvision's parameter names, so that its checkpoints load.

Its pictures are 299 pixels wide. The published checkpoint is torchvision's IMAGENET1K_V1 (77.29 %
top-1), ported from Google's; torchvision normalises by ImageNet's statistics and then takes that
back inside the network, to (pixel - 127.5) / 127.5, which is the recipe here.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from corral.models.loading import fill
from corral.models.spec import ModelSpec, Recipe, Weights
from corral.models.weights import Published, find_published

if TYPE_CHECKING:
    import torch

_CLASSES = 1000
_PUBLISHED = Published(
    url="https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth",
    description="ImageNet-1K, torchvision's IMAGENET1K_V1",
)
_RECIPE = Recipe(
    resize=342,
    crop=299,
    interpolation="bilinear",
    mean=(127.5, 127.5, 127.5),
    std=(127.5, 127.5, 127.5),
)

#: height and width
_Kernel = tuple[int, int]
#: a convolution: its name, channels, kernel and stride
_Step = tuple[str, int, _Kernel, int]
#: convolutions one after the other; of the last place's, each gets the same, and all count
_Branch = tuple[tuple[_Step, ...], ...]


def _step(name: str, out: int, kernel: int | _Kernel = 1, stride: int = 1) -> tuple[_Step, ...]:
    return ((name, out, kernel if isinstance(kernel, tuple) else (kernel, kernel), stride),)


def _chain(name: str, *steps: tuple[int, int | _Kernel] | tuple[int, int, int]) -> _Branch:
    """Convolutions that are numbered from 1."""
    return tuple(_step(f"{name}_{number}", *step) for number, step in enumerate(steps, start=1))


def _fork(name: str, number: int, out: int) -> tuple[_Step, ...]:
    """A row and a column side by side."""
    row, column = f"{name}_{number}a", f"{name}_{number}b"
    return (*_step(row, out, (1, 3)), *_step(column, out, (3, 1)))


def _pooled(out: int) -> _Branch:
    return (_step("branch_pool", out),)


def _wide(pool: int) -> list[_Branch]:
    """3x3 and 5x5: torchvision's InceptionA."""
    return [
        (_step("branch1x1", 64),),
        _chain("branch5x5", (48, 1), (64, 5)),
        _chain("branch3x3dbl", (64, 1), (96, 3), (96, 3)),
        _pooled(pool),
    ]


def _long(inner: int) -> list[_Branch]:
    """7x7, as rows and columns: InceptionC."""
    row, column = (1, 7), (7, 1)
    return [
        (_step("branch1x1", 192),),
        _chain("branch7x7", (inner, 1), (inner, row), (192, column)),
        _chain(
            "branch7x7dbl", (inner, 1), (inner, column), (inner, row), (inner, column), (192, row)
        ),
        _pooled(192),
    ]


def _forked() -> list[_Branch]:
    """3x3 that end in a row and a column: InceptionE."""
    return [
        (_step("branch1x1", 320),),
        (_step("branch3x3_1", 384), _fork("branch3x3", 2, 384)),
        (*_chain("branch3x3dbl", (448, 1), (384, 3)), _fork("branch3x3dbl", 3, 384)),
        _pooled(192),
    ]


#: halve the picture: InceptionB and InceptionD
_HALVE_FIRST: list[_Branch] = [
    (_step("branch3x3", 384, 3, 2),),
    _chain("branch3x3dbl", (64, 1), (96, 3), (96, 3, 2)),
]
_HALVE_SECOND: list[_Branch] = [
    _chain("branch3x3", (192, 1), (320, 3, 2)),
    _chain("branch7x7x3", (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2)),
]
#: names, branches and channels after each; AuxLogits hangs on the one named in _AUXILIARY
_BLOCKS: tuple[tuple[str, list[_Branch], int], ...] = (
    ("Mixed_5b", _wide(32), 256),
    ("Mixed_5c", _wide(64), 288),
    ("Mixed_5d", _wide(64), 288),
    ("Mixed_6a", _HALVE_FIRST, 768),
    ("Mixed_6b", _long(128), 768),
    ("Mixed_6c", _long(160), 768),
    ("Mixed_6d", _long(160), 768),
    ("Mixed_6e", _long(192), 768),
    ("Mixed_7a", _HALVE_SECOND, 1280),
    ("Mixed_7b", _forked(), 2048),
    ("Mixed_7c", _forked(), 2048),
)
_AUXILIARY = ("Mixed_6e", 768)


def _build(weights: Weights) -> torch.nn.Module:
    return fill(_network(), weights, _RECIPE)


def _network() -> torch.nn.Module:
    """The network, without weights worth having."""
    from torch import nn

    convolution, mixed = _convolution_class(), _mixed_class()

    class Auxiliary(nn.Module):  # type: ignore[misc]
        """A second classifier, which only training uses: checkpoints have its parameters."""

        def __init__(self, channels: int) -> None:
            super().__init__()
            self.conv0 = convolution(channels, 128, (1, 1))
            self.conv1 = convolution(128, 768, (5, 5), pads=False)
            self.fc = nn.Linear(768, _CLASSES)

    class Inception(nn.Module):  # type: ignore[misc]
        """FP32 [n,3,299,299] to FP32 [n,1000]."""

        def __init__(self) -> None:
            super().__init__()
            self.Conv2d_1a_3x3 = convolution(3, 32, (3, 3), 2)
            self.Conv2d_2a_3x3 = convolution(32, 32, (3, 3), pads=False)
            self.Conv2d_2b_3x3 = convolution(32, 64, (3, 3))
            self.maxpool1 = nn.MaxPool2d(3, stride=2)
            self.Conv2d_3b_1x1 = convolution(64, 80, (1, 1))
            self.Conv2d_4a_3x3 = convolution(80, 192, (3, 3), pads=False)
            self.maxpool2 = nn.MaxPool2d(3, stride=2)
            channels = 192
            for name, branches, after in _BLOCKS:
                self.add_module(name, mixed(channels, branches))
                channels = after
                if (name, after) == _AUXILIARY:
                    self.AuxLogits = Auxiliary(after)
            self.fc = nn.Linear(channels, _CLASSES)

        def forward(self, x: torch.Tensor) -> Any:
            x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
            x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(self.maxpool1(x)))
            x = self.maxpool2(x)
            for name, _, _ in _BLOCKS:
                x = getattr(self, name)(x)
            return self.fc(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))

    return Inception()


def _mixed_class() -> type[Any]:
    """A block of branches; a class made here, because its base needs torch."""
    import torch
    from torch import nn

    convolution = _convolution_class()

    class Mixed(nn.Module):  # type: ignore[misc]
        """Branches of the same input, one after the other in the channels."""

        def __init__(self, channels: int, branches: list[_Branch]) -> None:
            super().__init__()
            self._branches = branches
            #: it halves the picture, and a pooled copy of the input is a branch, too
            self._halves = branches[-1][-1][-1][0] != "branch_pool"
            for branch in branches:
                given = channels
                for place in branch:
                    for name, out, kernel, stride in place:
                        self.add_module(name, convolution(given, out, kernel, stride))
                        after = out
                    given = after

        def forward(self, x: torch.Tensor) -> Any:
            found = [part for branch in self._branches for part in self._run(branch, x)]
            if self._halves:
                found.append(nn.functional.max_pool2d(x, 3, stride=2))
            return torch.cat(found, 1)

        def _run(self, branch: _Branch, x: torch.Tensor) -> list[torch.Tensor]:
            if branch[0][0][0] == "branch_pool":
                x = nn.functional.avg_pool2d(x, 3, stride=1, padding=1)
            for place in branch[:-1]:
                x = getattr(self, place[0][0])(x)
            return [getattr(self, step[0])(x) for step in branch[-1]]

    return Mixed


def _convolution_class() -> type[Any]:
    """Convolution, batch norm, activation; a class made here, because its base needs torch."""
    from torch import nn

    class Convolution(nn.Module):  # type: ignore[misc]
        """Padded to the same size where it has no stride."""

        def __init__(
            self, channels: int, out: int, kernel: _Kernel, stride: int = 1, *, pads: bool = True
        ) -> None:
            super().__init__()
            pad = (kernel[0] // 2, kernel[1] // 2) if stride == 1 and pads else 0
            self.conv = nn.Conv2d(channels, out, kernel, stride, pad, bias=False)
            self.bn = nn.BatchNorm2d(out, eps=0.001)

        def forward(self, x: torch.Tensor) -> Any:
            return nn.functional.relu(self.bn(self.conv(x)), inplace=True)

    return Convolution


SPEC = ModelSpec(
    name="inception_v3",
    recipe=_RECIPE,
    classes=_CLASSES,
    find_weights=functools.partial(find_published, model="inception_v3", published=_PUBLISHED),
    build=_build,
)
