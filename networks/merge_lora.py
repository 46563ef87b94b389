"""Merge LoRAs into a model, or into one LoRA: `python networks/merge_lora.py --sd_model m.safetensors --models a.safetensors …`"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if __package__ in (None, ""):  # started as a script: the library is one folder up
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.console import run_script
from library.errors import UserError, coded
from library.options.reading.parse import parse
from library.options.rules.declared_paths import own_input_faults
from library.options.rules.tool_check import check_paths
from library.options.tool_groups.lora import MergeLora
from library.paths.faults import model_name_fault
from library.words import counted

if TYPE_CHECKING:
    import torch

    from library.surgery.network_file import NetworkFile


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, without the script's name."""
    options = parse(MergeLora, argv)
    merge, save_to = options.merge, options.output.save_to
    check_paths(options)
    problems = []
    if merge.ratios and len(merge.ratios) != len(merge.models):
        problems.append(
            coded("TOOL-005", f"--ratios: {counted(len(merge.ratios), 'value')} for {len(merge.models)} --models; give one for each")
        )
    if merge.sd_model is not None and (merge.concat or merge.shuffle):
        problems.append(coded("OPT-008", "--concat, --shuffle: only merge LoRAs into one LoRA; remove them or --sd_model"))
    if merge.sd_model is None and save_to.suffix.lower() not in (".safetensors", ".ckpt", ".pt"):
        problems.append(coded("FILE-007", f"--save_to {save_to}: use a .safetensors, .ckpt or .pt file, or set --sd_model to merge into"))
    if merge.sd_model is None and merge.v2:
        problems.append(coded("OPT-008", "--v2: describes --sd_model, which is missing; remove it"))
    if merge.sd_model is not None and (fault := model_name_fault(save_to)):
        problems.append(fault.reworded(f"--save_to {fault}"))
    if merge.sd_model is not None:  # a model never takes a LoRA's place
        problems += own_input_faults(options, "save_to", ("sd_model",))
    if problems:
        raise UserError(*problems)
    if merge.sd_model is not None:
        _into_model(options, merge.sd_model)
    else:
        _into_one(options)


def _sources(options: MergeLora) -> list[tuple[NetworkFile, float]]:
    from library.surgery.network_file import open_network

    ratios = options.merge.ratios or (1.0,) * len(options.merge.models)
    return [(open_network(path, "--models"), ratio) for path, ratio in zip(options.merge.models, ratios, strict=True)]


def _precisions(options: MergeLora) -> tuple[torch.dtype, torch.dtype]:
    from library.surgery.network_file import DTYPES

    return DTYPES[options.output.precision], DTYPES[options.output.save_precision or options.output.precision]


def _into_model(options: MergeLora, sd_model: str) -> None:
    from library.lora.bundled.carry import write_beside
    from library.surgery.checkpoint import open_checkpoint
    from library.surgery.merge_model import ModelMerge, merge_into_model

    sources = _sources(options)
    model = open_checkpoint(sd_model, "--sd_model", options.merge.v2)
    merge = ModelMerge(sources, model.facts.family, *_precisions(options))
    description = ", ".join(f"{network.file.path.name}: {ratio:g}" for network, ratio in sources)
    metadata = {} if options.output.no_metadata else {"merged_networks": description}
    merge_into_model(model, merge, options.output.save_to, metadata, options.receipt.verbose, options.receipt.max_error)
    write_beside([network.file for network, _ in sources], options.output.save_to)


def _into_one(options: MergeLora) -> None:
    from library.console import progress
    from library.lora.bundled.carry import carried
    from library.surgery import combine
    from library.surgery.write import write_lora

    sources = _sources(options)
    for network, _ in sources:
        network.only_lora()
    precision, save_precision = _precisions(options)
    exact = options.merge.concat or len(sources) == 1
    modules = (combine.concatenated if exact else combine.averaged)(sources, precision, options.merge.shuffle)
    write_lora(
        progress(modules, total=len(combine.module_keys(sources)), label="merging", unit="module"),
        options.output.save_to,
        save_precision,
        None if options.output.no_metadata else combine.merged_metadata(sources),
        "‖merged − weighted sum of the LoRAs‖ / ‖weighted sum‖",
        options.receipt.verbose,
        options.receipt.max_error,
        extra=carried([network.file for network, _ in sources]),
    )


if __name__ == "__main__":
    sys.exit(run_script(main))
