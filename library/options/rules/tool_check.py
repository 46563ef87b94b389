"""Find paths of a tool's command line that cannot work, before anything is read: missing, a file instead of a folder, not writable."""

from __future__ import annotations

from collections.abc import Container, Iterator

from library.errors import Problem, UserError, coded
from library.options.declare import Tool, options_of, options_table
from library.options.rules.declared_paths import path_faults
from library.options.tool_groups.lora import ExtractDyloraOptions, LoraOutputOptions, ModelOutputOptions

_LORA_ENDINGS = (".safetensors", ".ckpt", ".pt")


def check_paths(options: Tool, idle: Container[str] = ()) -> None:
    """Raise UserError with all errors in the paths that the tool's options name, except those in `idle`, and with options in the tool's
    `required` that are not set."""
    values = options_table(options)
    problems = [
        coded("OPT-007", f"--{option.field} is missing: {option.help}")
        for option in options_of(type(options))
        if option.field in options.required and values[option.field] in (None, ())
    ]
    problems += path_faults(options, idle)
    problems += _ending_faults(options)
    if problems:
        raise UserError(*problems)


def _ending_faults(options: Tool) -> Iterator[Problem]:
    """Yield an error if a tool is to write a LoRA to a file that cannot be one: known before the work, which takes minutes."""
    for group in vars(options).values():
        if isinstance(group, LoraOutputOptions | ExtractDyloraOptions) and not isinstance(group, ModelOutputOptions):
            save_to = group.save_to
            if save_to and save_to.suffix.lower() not in _LORA_ENDINGS:
                yield coded("FILE-007", f"--save_to {save_to}: a LoRA is saved as {', '.join(_LORA_ENDINGS)}; choose another name")
