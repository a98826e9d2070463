"""What a model of the zoo is: shapes, the recipe that makes pictures fit, and a builder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from corral.tensors import Datatype, Recipe, Signature, View

if TYPE_CHECKING:
    import torch

__all__ = ["ModelSpec", "Recipe", "Weights"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
    """Where a model's weights come from, found without loading them.

    Attributes:
        source: "imagenet", "file", "package" or "synthetic".
        description: one phrase for a person.
        path: the checkpoint; None for synthetic weights.
        digest: identifies the content; part of the artefact's key.
    """

    source: str
    description: str
    path: Path | None
    digest: str

    @property
    def synthetic(self) -> bool:
        """True when the weights carry no knowledge."""
        return self.source == "synthetic"


#: what clients see a signature's fields as
_SEEN_AS = {
    "input_shapes": "inputs",
    "inputs": "inputs",
    "input_names": "inputs",
    "output_shape": "outputs",
    "outputs": "outputs",
    "output_names": "outputs",
    "recipe": "preprocessing",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model of the zoo. Importing it imports no framework; ``build`` does.

    Attributes:
        name: as on the command line.
        recipe: for pictures.
        classes: length of the logits.
        find_weights: (choice, cache folder, offline) to Weights. The choice is what --weights
            says: "auto", "imagenet", "synthetic" or a file's path. Raises ModelError.
        build: Weights to a torch module in eval mode: FP32 [n,3,crop,crop] normalised in,
            FP32 [n,classes] logits out. Raises ModelError.
    """

    name: str
    recipe: Recipe
    classes: int
    find_weights: Callable[[str, Path, bool], Weights]
    build: Callable[[Weights], torch.nn.Module]
    #: a user's own ONNX file or OpenVINO IR; None for the zoo's
    file: Path | None = None
    #: what a user's file takes; None: pictures, by the recipe
    shapes: Signature | None = None
    #: the classes' names where they are not ImageNet's
    label_names: tuple[str, ...] | None = None
    #: the batch that a user's file is fixed at; it is served in batches of one then
    fixed_batch: int | None = None
    #: a user's file is in INT8 already: it serves as it is, whatever precision is asked for
    quantized: bool = False
    #: built of attention, which is quantized in a way of its own
    transformer: bool = False
    #: of what ``build`` builds: raise it whenever the same weights give another module
    revision: int = 1

    @property
    def native(self) -> Datatype:
        """What the network itself takes."""
        return self.signature.native

    @property
    def takes_pictures(self) -> bool:
        """Whether encoded pictures, and pixels, can be made to fit."""
        return self.signature.takes_pictures

    @property
    def views(self) -> tuple[View, ...]:
        """Under which of the three signatures it can be served."""
        return self.signature.views

    def changed_from(self, other: ModelSpec) -> list[str]:
        """What a frontend goes by and has otherwise in another specification, in words."""
        # Field by field: the struct itself compares by identity.
        pairs = zip(
            Signature.__struct_fields__,
            msgspec.structs.astuple(self.signature),
            msgspec.structs.astuple(other.signature),
            strict=True,
        )
        changed = {_SEEN_AS[field] for field, mine, its in pairs if mine != its}
        changed |= {"name"} if self.name != other.name else set()
        changed |= {"outputs"} if self.classes != other.classes else set()
        changed |= {"labels"} if self.label_names != other.label_names else set()
        return sorted(changed)

    @property
    def signature(self) -> Signature:
        """FP32 [3,crop,crop] normalised, or UINT8 [crop,crop,3] pixels; FP32 [classes] out."""
        if self.shapes is not None:
            return self.shapes
        crop = self.recipe.crop
        return Signature(
            {Datatype.FP32: (3, crop, crop), Datatype.UINT8: (crop, crop, 3)},
            (self.classes,),
            self.recipe,
        )
