"""Reads the archives with hwloc's lstopo into hwloc.json, what our own reading is compared with.

python read_with_hwloc.py           writes hwloc.json
python read_with_hwloc.py --check   compares instead; exit code 1 when they differ
python read_with_hwloc.py --live    prints hwloc's reading of this machine
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from corral.system.archive import extract

HERE = Path(__file__).parent


def bits(mask: str) -> list[int]:
    """Numbers of a mask like ``0x000000ff,0xffffffff``."""
    value = 0
    for word in mask.split(","):
        value = value << 32 | int(word, 16)
    return [i for i in range(value.bit_length()) if value >> i & 1]


def lstopo(*options: str, root: Path | None) -> ET.Element:
    """lstopo's XML of the machine below ``root``, of this one if None."""
    environ = dict(os.environ)
    if root is not None:
        # The name of this machine's kernel and CPU must not colour what is read.
        environ |= {"HWLOC_FSROOT": str(root), "HWLOC_COMPONENTS": "linux,stop"}
    command = ["lstopo-no-graphics", "--no-io", "--of", "xml", *options]
    return ET.fromstring(
        subprocess.run(command, env=environ, check=True, stdout=subprocess.PIPE).stdout
    )


def read(root: Path | None) -> dict[str, object]:
    """What hwloc makes of a machine, allowed or not, and what it says is allowed."""
    everything = lstopo("--disallowed", root=root)
    objects: dict[str, list[ET.Element]] = {}
    for item in everything.iter("object"):
        objects.setdefault(item.attrib["type"], []).append(item)
    machine = objects["Machine"][0].attrib

    def cpusets(kind: str) -> list[list[int]]:
        return sorted(bits(item.attrib["cpuset"]) for item in objects.get(kind, []))

    kinds = everything.findall("cpukind")
    kinds.sort(key=lambda kind: -speed(kind))
    return {
        "packages": cpusets("Package"),
        "nodes": {
            item.attrib["os_index"]: {
                "cpus": bits(item.attrib["cpuset"]),
                "memory_bytes": int(item.attrib.get("local_memory", 0)),
            }
            for item in objects["NUMANode"]
        },
        "cores": cpusets("Core"),
        "l3_groups": cpusets("L3Cache"),
        "online": bits(machine["cpuset"]),
        "offline": sorted(set(bits(machine["complete_cpuset"])) - set(bits(machine["cpuset"]))),
        "allowed": bits(machine["allowed_cpuset"]),
        "allowed_nodes": bits(machine["allowed_nodeset"]),
        "kinds_fastest_first": [bits(kind.attrib["cpuset"]) for kind in kinds],
    }


def speed(kind: ET.Element) -> int:
    """The highest frequency of a CPU kind, MHz; 0 where it is not told."""
    infos = {info.attrib["name"]: info.attrib["value"] for info in kind.iter("info")}
    return int(infos.get("FrequencyMaxMHz", 0))


def read_all() -> dict[str, object]:
    """The reading of every archive, by its file name."""
    found: dict[str, object] = {}
    for archive in sorted(HERE.glob("*.tar.bz2")):
        with tempfile.TemporaryDirectory() as folder:
            with tarfile.open(archive) as tar:
                extract(tar, tar, Path(folder))
            (root,) = Path(folder).iterdir()
            found[archive.name.removesuffix(".tar.bz2")] = read(root)
    return found


def as_text(found: object) -> str:
    """JSON with every list of numbers on one line."""
    text = json.dumps(found, indent=1)
    return re.sub(r"\[[\d,\s]+\]", lambda match: re.sub(r"\s+", "", match[0]), text) + "\n"


def main() -> int:
    """Entry of the script."""
    if "--live" in sys.argv:
        print(json.dumps(read(None)))
        return 0
    path = HERE / "hwloc.json"
    found = read_all()
    if "--check" in sys.argv:
        agrees = json.loads(path.read_text()) == found
        print("hwloc.json is what lstopo reads" if agrees else "hwloc.json differs from lstopo")
        return 0 if agrees else 1
    path.write_text(as_text(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
