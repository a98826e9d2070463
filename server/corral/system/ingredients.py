"""The key of what is cached: a hash of all that decides its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping


def ingredients_key(ingredients: Mapping[str, str]) -> str:
    """SHA-256, in hex, of ingredients by name, whatever their order."""
    return hashlib.sha256(json.dumps(dict(ingredients), sort_keys=True).encode()).hexdigest()
