"""As much of kustomize as deploy/kubernetes needs: resources, ConfigMaps, merged patches."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import yaml

_KNOWN = {"apiVersion", "kind", "resources", "configMapGenerator", "patches"}


def documents(text: str) -> list[dict[str, Any]]:
    """All documents of a YAML file."""
    return [found for found in yaml.safe_load_all(text) if found]


def render(folder: Path) -> list[dict[str, Any]]:
    """What ``kubectl kustomize FOLDER`` would print, as far as these files go."""
    resources, maps = _collect(folder)
    names = {}
    for name, data in maps.items():
        digest = hashlib.sha256(repr(sorted(data.items())).encode()).hexdigest()[:10]
        names[name] = f"{name}-{digest}"
        resources.append(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": names[name]},
                "data": data,
            }
        )
    for resource in resources:
        volumes = resource.get("spec", {}).get("template", {}).get("spec", {}).get("volumes", [])
        for volume in volumes:
            if "configMap" in volume:
                volume["configMap"]["name"] = names[volume["configMap"]["name"]]
    return resources


def _collect(folder: Path) -> tuple[list[dict[str, Any]], dict[str, dict[str, str]]]:
    plan = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert plan["kind"] == "Kustomization"
    assert set(plan) <= _KNOWN, f"{folder}: this renderer does not know {set(plan) - _KNOWN}"
    resources: list[dict[str, Any]] = []
    maps: dict[str, dict[str, str]] = {}
    for name in plan["resources"]:
        if (folder / name).is_dir():
            below, others = _collect(folder / name)
            resources += below
            maps |= others
        else:
            resources += documents((folder / name).read_text())
    for made in plan.get("configMapGenerator", []):
        assert (made.get("behavior") == "replace") == (made["name"] in maps)
        maps[made["name"]] = {file: (folder / file).read_text() for file in made["files"]}
    for patch in plan.get("patches", []):
        (wanted,) = documents((folder / patch["path"]).read_text())
        (target,) = [
            r
            for r in resources
            if r["kind"] == wanted["kind"] and r["metadata"]["name"] == wanted["metadata"]["name"]
        ]
        merged = merge(target, wanted)
        target.clear()
        target.update(merged)
    return resources, maps


def merge(base: Any, patch: Any) -> Any:
    """A strategic merge: maps by key, lists of named things by name, null removes."""
    if isinstance(base, dict) and isinstance(patch, dict):
        found = copy.deepcopy(base)
        for key, value in patch.items():
            if value is None:
                found.pop(key, None)
            else:
                found[key] = merge(found.get(key), value)
        return found
    named = isinstance(patch, list) and all(isinstance(i, dict) and "name" in i for i in patch)
    if isinstance(base, list) and named:
        by_name = {item["name"]: item for item in base}
        for item in patch:
            by_name[item["name"]] = merge(by_name.get(item["name"]), item)
        return list(by_name.values())
    return copy.deepcopy(patch)
