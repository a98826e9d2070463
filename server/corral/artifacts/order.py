"""What an artefact is to be made of, and the key that this gives it. Imports no framework."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from corral.system.ingredients import ingredients_key

#: grows when the folder's form changes, so that older artefacts are prepared anew
_FORM = 1
#: what an OpenVINO IR consists of
IR_FILES = ("model.xml", "model.bin")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """What an artefact is to be made of: all that its key is the hash of.

    Attributes:
        model: name as on the command line.
        precision: of the file itself: "fp32" or "int8".
        synthetic: True when the weights carry no knowledge.
        weights: one phrase for a person; not part of the key.
        ingredients: everything that the content depends on, by name.
        files: the names of its files, the one that an engine loads first.
    """

    model: str
    precision: str
    synthetic: bool
    weights: str
    ingredients: Mapping[str, str]
    files: tuple[str, ...] = IR_FILES

    @property
    def key(self) -> str:
        """SHA-256, in hex, of model, precision and ingredients."""
        return artefact_key({**self.ingredients, "model": self.model, "precision": self.precision})

    @property
    def folder_name(self) -> str:
        """Name of the artefact's folder."""
        return f"{self.model}-{self.precision}-{self.key[:12]}"


def artefact_key(ingredients: Mapping[str, str]) -> str:
    """SHA-256, in hex, of ingredients by name, whatever their order."""
    return ingredients_key({**ingredients, "form": str(_FORM)})


#: what an ingredient is whose distribution is not installed
ABSENT = "absent"


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """Installed versions by distribution, read without importing any; "absent" where missing."""
    # Its own imports are a twentieth of a start's; the null engine asks for no version.
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ABSENT
    return found


#: weights for sums of 16 bits, which wider sums take as well; not the other way round
OVERFLOW_FIX, FOR_ANY_CPU, FOR_WIDE_SUMS = "overflow_fix", "enable", "disable"
#: what a search could give layers that stay out of INT8; each serves on any CPU
LEFT_OUT, IN_BF16, IN_FP32 = "left_out", "bf16", "fp32"

#: how a search judges answers that are no scores of classes: before their sorts and decisions, by
#: what changes with the picture, boxes by size
JUDGED, BEFORE_SORTS = "judged", "before the sorts, by what changes"


def made_of_the_same(wanted: Mapping[str, str], found: Mapping[str, str]) -> bool:
    """Whether ingredients are those that are wanted, whatever the version of what is absent.

    What is absent here can make nothing here: INT8 for any CPU then serves on one with wide sums,
    and INT8 whose layers were searched on a CPU without BF16 on one that has it.
    """
    if set(wanted) != set(found):
        return False
    for name, value in wanted.items():
        any_cpu = name == LEFT_OUT or (name == OVERFLOW_FIX and found[name] == FOR_ANY_CPU)
        if value not in {ABSENT, found[name]} and not any_cpu:
            return False
    return True
