"""The page at /docs: it shows /openapi.json, and classifies a picture; nothing of it comes from
elsewhere."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 2rem } pre { background: #8881; padding: .7rem; overflow-x: auto }
details { border: 1px solid #8885; border-radius: .4rem; margin: .4rem 0; padding: .4rem .8rem }
summary { cursor: pointer } .method { font-weight: 700; display: inline-block; width: 4rem }
code { font-size: .95em } .summary { opacity: .7; margin-left: .7rem }
"""

# Only textContent: nothing that the server says of itself becomes markup.
_SCRIPT: Final = """
const make = (kind, text, parent) => {
  const made = document.createElement(kind);
  made.textContent = text;
  parent.append(made);
  return made;
};
const show = (api) => {
  document.title = `${api.info.title} ${api.info.version}`;
  document.querySelector("h1").textContent = document.title;
  make("pre", api.info.description, document.querySelector("#about"));
  const list = document.querySelector("#operations");
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, operation] of Object.entries(methods)) {
      const box = make("details", "", list);
      const line = make("summary", "", box);
      make("span", method.toUpperCase(), line).className = "method";
      make("code", path, line);
      make("span", operation.summary, line).className = "summary";
      make("pre", JSON.stringify(operation, null, 2), box);
    }
  const schemas = document.querySelector("#schemas");
  for (const [name, schema] of Object.entries(api.components.schemas)) {
    const box = make("details", "", schemas);
    make("summary", name, box);
    make("pre", JSON.stringify(schema, null, 2), box);
  }
  const models = document.querySelector("select");
  for (const name of api.components.parameters.model.schema.enum) make("option", name, models);
};
fetch("/openapi.json").then((answer) => answer.json()).then(show);
document.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const out = document.querySelector("#labels");
  const name = encodeURIComponent(document.querySelector("select").value);
  out.textContent = "…";
  try {
    const body = document.querySelector("input").files[0];
    const answer = await fetch(`/v2/models/${name}/classify`, { method: "POST", body });
    out.textContent = JSON.stringify(await answer.json(), null, 2);
  } catch (error) {
    out.textContent = String(error);
  }
});
"""

_PAGE: Final = f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>corral</title><style>{_STYLE}</style></head>
<body>
<h1>corral</h1>
<div id="about"></div>
<h2>Classify a picture</h2>
<form><select aria-label="model"></select>
<input type="file" accept="image/jpeg,image/png" required aria-label="picture">
<button>Classify</button></form>
<pre id="labels">JPEG or PNG</pre>
<h2>Operations</h2><div id="operations"></div>
<h2>Schemas</h2><div id="schemas"></div>
<p><a href="/openapi.json">openapi.json</a></p>
<script>{_SCRIPT}</script>
</body></html>
"""


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


PAGE: Final = _PAGE.encode()
#: The browser runs the page's own script and no other, and asks nobody but this server.
HEAD_FIELDS: Final = (
    (
        b"content-security-policy",
        (
            f"default-src 'none'; script-src {_hash(_SCRIPT)}; style-src {_hash(_STYLE)}; "
            "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        ).encode(),
    ),
    (b"x-content-type-options", b"nosniff"),
)
