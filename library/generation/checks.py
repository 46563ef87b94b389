"""Image options that contradict each other; imports nothing large."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from library.data.scan.image_headers import Unreadable, read_header
from library.errors import Problem, UserError, coded
from library.generation.prompts import Prompts
from library.options.tool_groups.pictures import GenImg, PictureNetworkOptions, PictureWorkOptions
from library.pictures.prompt_files import SamplePrompt
from library.words import counted


@dataclass(frozen=True)
class NetworkChoice:
    """A network file, the module that reads it (None: chosen by the file), the module's arguments, the strength, and the file's option."""

    file: Path
    module: str | None = None
    args: tuple[tuple[str, str], ...] = ()
    strength: float = 1.0
    option: str = "--network_weights"


def check(options: GenImg) -> None:
    """Raise UserError with all contradictions."""
    problems = [
        *prompt_faults(options.prompts), *_networks(options.networks), *_images(options), *precision_faults(options.work)
    ]  # fmt: skip
    if problems:
        raise UserError(*problems)


def prompt_faults(options: Prompts) -> Iterator[Problem]:
    """Yield an error unless prompts are given in exactly one of the two ways."""
    if options.prompt is None and options.from_file is None:
        yield coded("OPT-007", "--prompt is missing: set one, or a file of prompts with --from_file")
    if options.prompt is not None and options.from_file is not None:
        yield coded("OPT-008", "--prompt, --from_file: use one or the other")


def precision_faults(work: PictureWorkOptions) -> Iterator[Problem]:
    """Yield an error if two precisions are requested."""
    if work.fp16 and work.bf16:
        yield coded("OPT-008", "--fp16, --bf16: contradict each other; remove one")


def _networks(networks: PictureNetworkOptions) -> Iterator[Problem]:
    files = len(networks.network_weights)
    for option, values, one_for_all in (
        ("--network_module", networks.network_module, True),
        ("--network_mul", networks.network_mul, False),
        ("--network_args", networks.network_args, False),
    ):
        if values and not files:
            yield coded("OPT-009", f"{option}: needs --network_weights, which is missing; add the files or remove it")
        elif len(values) > files or (option == "--network_mul" and values and len(values) != files):
            yield coded("OPT-005", f"{option}: {counted(len(values), 'value')} for {files} --network_weights; give one for each")
        elif one_for_all and 1 < len(values) < files:
            yield coded("OPT-005", f"{option}: {len(values)} values for {files} --network_weights; give one for each, or one")
    for text in networks.network_args:
        for item in filter(None, (part.strip() for part in text.split(";"))):
            if "=" not in item or not item.partition("=")[0].strip():
                yield coded("OPT-010", f"--network_args {item!r}: must be key=value, such as conv_dim=4")


def _images(options: GenImg) -> Iterator[Problem]:
    pictures = options.pictures
    if not pictures.image_path:
        for option, there in (("--mask_path", bool(pictures.mask_path)), ("--strength", pictures.strength is not None)):
            if there:
                yield coded("OPT-009", f"{option}: applies only to img2img; add --image_path or remove it")
        return
    if len(pictures.mask_path) not in (0, 1, len(pictures.image_path)):
        counts = f"{counted(len(pictures.mask_path), 'mask')} for {len(pictures.image_path)} --image_path"
        yield coded("OPT-005", f"--mask_path: {counts}; give one for each, or one for all")
    for option, files in (("--image_path", pictures.image_path), ("--mask_path", pictures.mask_path)):
        for file in dict.fromkeys(files):
            try:
                read_header(Path(file))
            except Unreadable as fault:
                yield coded("DATA-001", f"{option} {file}: {fault}; use another image")


def network_choices(networks: PictureNetworkOptions) -> tuple[NetworkChoice, ...]:
    """Return the networks, in the order of the command."""
    files = networks.network_weights
    modules = networks.network_module * len(files) if len(networks.network_module) == 1 else networks.network_module
    arguments = [_arguments(text) for text in networks.network_args]
    strengths = networks.network_mul or (1.0,) * len(files)
    return tuple(
        NetworkChoice(
            Path(file),
            modules[place] if place < len(modules) else None,
            arguments[place] if place < len(arguments) else (),
            strengths[place],
        )
        for place, file in enumerate(files)
    )


def _arguments(text: str) -> tuple[tuple[str, str], ...]:
    pairs = [part.partition("=") for part in text.split(";") if part.strip()]
    return tuple((key.strip(), value.strip()) for key, _, value in pairs)


def check_prompts(prompts: Sequence[SamplePrompt], networks: int, images: bool) -> None:
    """Raise UserError for prompts whose options contradict those of the command."""
    problems = []
    for prompt in prompts:
        if prompt.strengths and len(prompt.strengths) != networks:
            strengths = ",".join(f"{one:g}" for one in prompt.strengths)
            problems.append(
                coded(
                    "CFG-013",
                    f"--am {strengths} of prompt {prompt.prompt!r}: the command has {networks} --network_weights; give one for each",
                )
            )
        if prompt.denoising is not None and not images:
            problems.append(
                coded("CFG-013", f"--t {prompt.denoising:g} of prompt {prompt.prompt!r}: applies only with --image_path; remove it")
            )
    if problems:
        raise UserError(*problems)
