"""The text that `--help` prints."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path
from typing import Any

from library.options.declare import Option, Script, Tool, groups_of, options_of, title_of

_METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}
_INDENT = 32
_IMAGES = "and --dataset_config or --train_data_dir"


def help_of(spec: type[Script], width: int | None = None) -> str:
    """Return all options of the script by group, wrapped to `width` characters (the terminal's, at most 110)."""
    width = width or max(60, min(110, shutil.get_terminal_size((100, 24)).columns))
    lines = [*textwrap.wrap((spec.__doc__ or "").strip(), width), "", *_usage(spec, width)]
    for group, kind in groups_of(spec).items():
        lines += ["", f"{title_of(kind)}:"]
        for option in options_of(spec):
            if option.group == group:
                lines += _entry(option, width)
    return "\n".join(lines) + "\n"


def _usage(spec: type[Script], width: int) -> list[str]:
    """How to start the script, and what it always needs."""
    if issubclass(spec, Tool):
        words = [option.field for option in options_of(spec) if option.positional]
        flags = [f"--{field}" for field in spec.required]
        lines = [" ".join([f"usage: python {spec.name}", *words, "--option value ..."])]
        return lines + (["", *textwrap.wrap(f"Needed in every run: {', '.join(flags)}.", width)] if flags else [])
    return [
        f"usage: python {spec.name} --option value ...",
        f"       python {spec.name} --config_file settings.toml ...",
        "",
        *textwrap.wrap(f"Needed in every run: {', '.join('--' + field for field in spec.required)}, {_IMAGES}.", width),
    ]


def shown_default(option: Option) -> str | None:
    """The default for users, or None if the option is simply off or empty."""
    default: Any = option.default
    if default is None or default is False or default in ((), ""):
        return None
    return f"{default:g}" if isinstance(default, float) else str(default)


def _entry(option: Option, width: int) -> list[str]:
    head = f"  {option.flag}"
    if option.type is not bool and not option.positional:
        shown = "|".join(map(str, option.choices)) if option.choices and len(option.choices) < 6 else _METAVARS[option.type]
        head += f" {shown}" + (" ..." if option.is_list else "")
    body = option.help
    if len(option.choices) >= 6:
        body += f" One of: {', '.join(map(str, option.choices))}."
    default = shown_default(option)
    if default is not None:
        body += f" [default: {default}]"
    if option.aliases:
        body += f" (also --{', --'.join(option.aliases)})"
    wrapped = textwrap.wrap(body, width - _INDENT, break_on_hyphens=False)
    rest = [" " * _INDENT + line for line in wrapped]
    if len(head) + 2 > _INDENT:
        return [head, *rest]
    return [head.ljust(_INDENT) + wrapped[0], *rest[1:]]
