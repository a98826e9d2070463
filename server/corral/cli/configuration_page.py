"""docs/configuration.md from the settings: ``python -m corral.cli.configuration_page FILE``."""

from __future__ import annotations

import sys
from pathlib import Path

from corral.models import registry
from corral.settings import Option, options
from corral.settings.ranges import values

_HEAD = """\
# Configuration

`make configuration` writes this page from `server/corral/settings`.

A setting is an option of every command but `status`, `top`, `reload` and `mode`, or a key of the
TOML file that `--config` names. The command line wins over the file, and the file over the
environment.

    corral serve --config corral.toml --max-batch 8

    # corral.toml
    mode = "throughput"
    max-queue-delay-ms = 2.5
    allow-client = ["alice", "bob"]

`CORRAL_CACHE` names the cache folder, and `CORRAL_OFFLINE=1` is `--offline`. Without it the cache
is `$XDG_CACHE_HOME/corral` or `~/.cache/corral`. Where neither can be had (a container's random
user, a read-only root), it is a folder of the user's own in `$TMPDIR`, `/var/tmp` or `/tmp`, with a
warning. Paths may begin with `~`. Files are UTF-8, whatever the locale.

`corral reload` reads the file again. Settings marked *live* change then, without a lost request;
the others need a restart, and a reload that finds one of them changed refuses and changes nothing.

A value outside its range, or one that another setting excludes, ends `corral` with one line and
exit code 2 before anything is prepared or started."""


def render() -> str:
    """The page, as Markdown."""
    parts = [_HEAD]
    title = None
    for option in options().values():
        if option.title != title:
            title = option.title
            parts.append(f"\n## {title[0].upper()}{title[1:]}\n")
            parts.append("| option | default | values | change | what it does |")
            parts.append("| --- | --- | --- | --- | --- |")
        parts.append(_row(option))
    return "\n".join(parts) + "\n"


def _row(option: Option) -> str:
    name = f"`--{option.name}`"
    if option.kind is bool and option.fallback is True:
        name += f", `--no-{option.name}`"
    cells = (
        name,
        option.default,
        values(option),
        "live" if option.live else "restart",
        option.help.format(models=", ".join(registry.names())),
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Writes the page to the file that argv names."""
    Path(sys.argv[1]).write_text(render(), "utf-8")


if __name__ == "__main__":
    main()
