"""As much of kustomize as deploy/kubernetes needs: components, maps, patches, replacements."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import yaml

_KNOWN = {
    *("apiVersion", "kind", "resources", "components", "configMapGenerator", "patches"),
    *("namespace", "replacements"),
}
Found = tuple[list[dict[str, Any]], dict[str, dict[str, str]]]


class _Strict(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    """Refuses a mapping that has a key twice, as Kubernetes' own reader may."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            where = node.start_mark
            raise yaml.constructor.ConstructorError(None, None, f"twice: {twice}", where)
        return dict(super().construct_mapping(node, deep))


def documents(text: str) -> list[dict[str, Any]]:
    """All documents of a YAML file; raises yaml.YAMLError where a key is there twice."""
    return [found for found in yaml.load_all(text, _Strict) if found]


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
                "metadata": {"name": names[name], **_namespace(folder)},
                "data": data,
            }
        )
    for resource in resources:
        volumes = resource.get("spec", {}).get("template", {}).get("spec", {}).get("volumes", [])
        for volume in volumes:
            if "configMap" in volume:
                volume["configMap"]["name"] = names[volume["configMap"]["name"]]
    return resources


def _namespace(folder: Path) -> dict[str, str]:
    plan = yaml.safe_load((folder / "kustomization.yaml").read_text())
    return {"namespace": plan["namespace"]} if "namespace" in plan else {}


def _collect(folder: Path, before: Found | None = None) -> Found:
    """A folder's resources and ConfigMaps; ``before``: those that a component changes."""
    plan = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert plan["kind"] == ("Kustomization" if before is None else "Component")
    assert plan["apiVersion"].endswith("v1beta1" if before is None else "v1alpha1")
    assert set(plan) <= _KNOWN, f"{folder}: this renderer does not know {set(plan) - _KNOWN}"
    resources, maps = ([], {}) if before is None else before
    for name in plan.get("resources", []):
        if (folder / name).is_dir():
            below, others = _collect(folder / name)
            resources += below
            maps |= others
        else:
            resources += documents((folder / name).read_text())
    for name in plan.get("components", []):
        resources, maps = _collect(folder / name, (resources, maps))
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
    if "namespace" in plan:
        for resource in resources:
            resource["metadata"]["namespace"] = plan["namespace"]
    for replacement in plan.get("replacements", []):
        _replace(resources, replacement)
    return resources, maps


def _replace(resources: list[dict[str, Any]], replacement: dict[str, Any]) -> None:
    """Puts a field of one resource into a part of others' texts; the last step, as kustomize's."""
    source = dict(replacement["source"])
    value = _chosen(resources, source)
    *above, last = source["fieldPath"].split(".")
    for key in above:
        value = value[key]
    for target in replacement["targets"]:
        options = target["options"]
        for path in target["fieldPaths"]:
            place: Any = _chosen(resources, target["select"])
            *above, field = path.split(".")
            for key in above:
                place = place[int(key) if key.isdigit() else key]
            parts = place[field].split(options["delimiter"])
            parts[options["index"]] = value[last]
            place[field] = options["delimiter"].join(parts)


def _chosen(resources: list[dict[str, Any]], by: dict[str, Any]) -> dict[str, Any]:
    (found,) = [
        resource
        for resource in resources
        if resource["kind"] == by["kind"] and resource["metadata"]["name"] == by["name"]
    ]
    return found


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
