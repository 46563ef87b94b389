"""Convert a model between .ckpt, .safetensors and Diffusers: `python tools/convert_diffusers20_original_sd.py model.ckpt folder --fp16`"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # started as a script: the library is one folder up
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.console import log, run_script
from library.errors import UserError, coded
from library.options.reading.parse import parse
from library.options.rules.tool_check import check_paths
from library.options.tool_groups.formats import Convert
from library.paths.look import is_file, is_folder

FILES = (".ckpt", ".safetensors")


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, without the script's name."""
    options = parse(Convert, argv)
    check_paths(options)
    _check(options)

    from library.model.files.locate import locate

    source, target = locate(options.models.model_to_load, "model_to_load"), options.models.model_to_save
    if is_file(source) and target.suffix.lower() in FILES:
        _between_files(options, source)
    else:
        _between_layouts(options)
    log.info("saved %s", target)


def _check(options: Convert) -> None:
    """Raise UserError for options that contradict each other or do not affect the output."""
    to_file = options.models.model_to_save.suffix.lower() in FILES
    problems = []
    if sum((options.models.fp16, options.models.bf16, options.models.float)) > 1:
        problems.append(coded("OPT-008", "--fp16, --bf16, --float: are precisions of the same weights; use one of them"))
    if options.models.v1 and options.models.v2:
        problems.append(coded("OPT-008", "--v1, --v2: contradict each other; remove the wrong one, or both"))
    for field in ("reference_model", "variant", "use_safetensors") if to_file else ("epoch", "global_step", "metadata"):
        if options.given(field):
            what = "a Diffusers folder" if to_file else "a single file"
            problems.append(coded("OPT-008", f"--{field}: is for writing {what}, which model_to_save is not; remove it"))
    if options.given("metadata") and options.models.model_to_save.suffix.lower() == ".ckpt":
        problems.append(coded("OPT-008", "--metadata: .ckpt files have no metadata; write a .safetensors file"))
    if to_file and options.models.v_parameterization:
        problems.append(coded("OPT-008", "--v_parameterization: single files do not record it; remove it"))
    target = options.models.model_to_save
    if not to_file and is_folder(target) and not is_file(target / "model_index.json"):
        problems.append(coded("PATH-011", f"model_to_save {target}: already exists and is not a Diffusers model; name a new folder"))
    if problems:
        raise UserError(*problems)


def _dtype(options: Convert):
    import torch

    chosen = {torch.float16: options.models.fp16, torch.bfloat16: options.models.bf16, torch.float32: options.models.float}
    return next((dtype for dtype, wanted in chosen.items() if wanted), None)


def _between_files(options: Convert, source: Path) -> None:
    """Convert between .ckpt and .safetensors; names do not change, so any file of weights can be converted."""
    from library.containers.weights_file import open_weights
    from library.model.family import family_of_names
    from library.model.file_tools.change_layout import check_family
    from library.model.file_tools.metadata_edit import parse_metadata
    from library.model.file_tools.recast import recast
    from library.model.files.facts import classic_infos

    file = open_weights(source, "model_to_load")
    if not file.infos:
        raise UserError(coded("FILE-008", f"model_to_load {source}: has no tensors, so there is nothing to convert; check the file"))
    check_family(options.models.v1, options.models.v2, family_of_names(classic_infos(file.infos)))
    metadata = parse_metadata(options.file.metadata)
    recast(file, options.models.model_to_save, _dtype(options), metadata, (options.file.epoch, options.file.global_step))


def _between_layouts(options: Convert) -> None:
    from library.model.file_tools.change_layout import change_layout
    from library.model.file_tools.metadata_edit import parse_metadata

    change_layout(
        options.models.model_to_load,
        options.models.model_to_save,
        _dtype(options),
        says_v1=options.models.v1,
        says_v2=options.models.v2,
        v_parameterization=options.models.v_parameterization,
        metadata=parse_metadata(options.file.metadata),
        trained=(options.file.epoch, options.file.global_step),
        reference=options.folder.reference_model,
        variant=options.folder.variant,
        safetensors=options.folder.use_safetensors,
    )


if __name__ == "__main__":
    sys.exit(run_script(main))
