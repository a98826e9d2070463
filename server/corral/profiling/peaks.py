"""The most that this CPU computes and moves: loops of the widest instructions, on given CPUs.

Each loop keeps its operands in registers; the figures are operations (two for a product and a
sum) a second, of all CPUs together. The instructions stand beside the bytes.
"""

from __future__ import annotations

import ctypes
import dataclasses
import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from corral.doctor.probing.compute import on_each
from corral.system import amx, machine_code

_MEASURE_S = 0.15
#: about a tenth of a millisecond
_ROUNDS = 20_000

# vxorps ymm0..15 / vpxord zmm0..15: the zeros that everything begins with
_ZERO_Y = (
    "c5f857c0c5f057c9c5e857d2c5e057dbc5d857e4c5d057edc5c857f6c5c057ff"
    "c4413857c0c4413057c9c4412857d2c4412057dbc4411857e4c4411057edc4410857f6c4410057ff"
)
_ZERO_Z = (
    "c5f9efc0c5f1efc9c5e9efd2c5e1efdbc5d9efe4c5d1efedc5c9eff6c5c1efff"
    "c44139efc0c44131efc9c44129efd2c44121efdbc44119efe4c44111efedc44109eff6c44101efff"
)
#: the third byte from the end of VEX and EVEX instructions on registers 0 to 7, then 8 to 11
_LOW, _HIGH = ("c7", "cf", "d7", "df", "e7", "ef", "f7", "ff"), ("c7", "cf", "d7", "df")


def _twelve(low: str, high: str) -> str:
    """The same instruction into twelve registers, from registers 14 and 15."""
    return "".join(low + end for end in _LOW) + "".join(high + end for end in _HIGH)


def _code(zeros: str, body: str, end: str) -> bytes:
    """zeros; 1: body; dec rdi; jnz 1b; end; ret."""
    back = 256 - len(body) // 2 - 5
    return bytes.fromhex(f"{zeros}{body}48ffcf75{back:02x}{end}c3")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kernel:
    """One loop.

    Attributes:
        isa: as people say it.
        precision: of the arithmetic.
        flags: CPU flags that must all be there.
        operations: of one round.
        code: machine code.
    """

    isa: str
    precision: str
    flags: frozenset[str]
    operations: int
    code: bytes


_VZEROUPPER = "c5f877"
#: ldtilecfg [rsi]; tilezero tmm0..7
_TILES = "c4e2784906" + "".join(f"c4e27b49{n:02x}" for n in range(0xC0, 0x100, 8))
_TILERELEASE = "c4e27849c0"

#: the best of each precision first
KERNELS = (
    Kernel(isa="AMX", precision="int8", flags=frozenset({"amx_tile", "amx_int8"}),
           operations=4 * 2 * 16 * 16 * 64,
           # tdpbusd tmm0,tmm4,tmm6; tmm1,tmm4,tmm7; tmm2,tmm5,tmm6; tmm3,tmm5,tmm7
           code=_code(_TILES, "c4e2495ec4c4e2415eccc4e2495ed5c4e2415edd", _TILERELEASE)),
    Kernel(isa="AVX-512 VNNI", precision="int8", flags=frozenset({"avx512_vnni"}),
           operations=12 * 128,
           # vpdpbusd zmm0..11, zmm14, zmm15
           code=_code(_ZERO_Z, _twelve("62d20d4850", "62520d4850"), _VZEROUPPER)),
    Kernel(isa="AVX-VNNI", precision="int8", flags=frozenset({"avx_vnni"}), operations=12 * 64,
           # vpdpbusd ymm0..11, ymm14, ymm15
           code=_code(_ZERO_Y, _twelve("c4c20d50", "c4420d50"), _VZEROUPPER)),
    Kernel(isa="AVX2", precision="int8", flags=frozenset({"avx2"}), operations=8 * 64,
           # vpmaddubsw ymm12, ymm14, ymm15; vpmaddwd ymm12, ymm12, ymm13; vpaddd ymm0..7, ., ymm12
           code=_code(_ZERO_Y, "".join(
               f"c4420d04e7c4411df5e5{add}" for add in (
                   "c59dfec0", "c59dfec9", "c59dfed2", "c59dfedb",
                   "c59dfee4", "c59dfeed", "c59dfef6", "c59dfeff")), _VZEROUPPER)),
    Kernel(isa="AMX", precision="bf16", flags=frozenset({"amx_tile", "amx_bf16"}),
           operations=4 * 2 * 16 * 16 * 32,
           # tdpbf16ps, the same tiles
           code=_code(_TILES, "c4e24a5cc4c4e2425cccc4e24a5cd5c4e2425cdd", _TILERELEASE)),
    Kernel(isa="AVX-512 BF16", precision="bf16", flags=frozenset({"avx512_bf16"}),
           operations=12 * 64,
           # vdpbf16ps zmm0..11, zmm14, zmm15
           code=_code(_ZERO_Z, _twelve("62d20e4852", "62520e4852"), _VZEROUPPER)),
    Kernel(isa="AVX-512", precision="fp32", flags=frozenset({"avx512f"}), operations=12 * 32,
           # vfmadd231ps zmm0..11, zmm14, zmm15
           code=_code(_ZERO_Z, _twelve("62d20d48b8", "62520d48b8"), _VZEROUPPER)),
    Kernel(isa="AVX2", precision="fp32", flags=frozenset({"avx2", "fma"}), operations=12 * 16,
           # vfmadd231ps ymm0..11, ymm14, ymm15
           code=_code(_ZERO_Y, _twelve("c4c20db8", "c4420db8"), _VZEROUPPER)),
)  # fmt: skip


def kernel_for(precision: str, flags: AbstractSet[str]) -> Kernel | None:
    """The widest loop of a precision that a CPU with these flags runs; None: there is none."""
    return next((k for k in KERNELS if k.precision == precision and k.flags <= flags), None)


def measure(kernel: Kernel, cpus: Sequence[int], measure_s: float = _MEASURE_S) -> float:
    """Operations a second of all these CPUs at once; the best turn of each counts.

    Raises:
        OSError: the kernel (of the system) allows no such code, or no AMX.
    """
    loop = machine_code.load(kernel.code)
    tiles = _tile_configuration()
    if "amx_tile" in kernel.flags and not amx.request():
        raise OSError("the kernel does not permit AMX")
    best: dict[int, float] = {}

    def turn(cpu: int) -> None:
        end_s, least_s = time.perf_counter() + measure_s, float("inf")
        while time.perf_counter() < end_s:
            begun_s = time.perf_counter()
            loop(_ROUNDS, ctypes.addressof(tiles))
            least_s = min(least_s, time.perf_counter() - begun_s)
        best[cpu] = _ROUNDS * kernel.operations / least_s

    on_each(cpus, turn)
    return sum(best.values())


def _tile_configuration() -> ctypes.Array[ctypes.c_ubyte]:
    """Eight tiles of 16 rows of 64 bytes, as ldtilecfg reads them."""
    found = (ctypes.c_ubyte * 64)()
    found[0] = 1
    for tile in range(8):
        found[16 + 2 * tile] = 64
        found[48 + tile] = 16
    return found
