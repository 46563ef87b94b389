"""How accelerate trains: only by processes that each have the whole model, with no other engine; and what is compiled."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec

from library.errors import Problem, coded
from library.options.rules.option_view import OptionView
from library.packages import network_package, why_not_compiled
from library.words import quoted

_ON = frozenset({"1", "true", "yes", "y", "on", "t"})  # how accelerate reads its variables
_BACKEND = "ACCELERATE_DYNAMO_BACKEND"  # set by `accelerate launch --dynamo_backend`
_PROCESSES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")  # set by `accelerate launch` and `torchrun`
_INSTEAD = "start with `accelerate launch --multi_gpu --num_processes N`, where each process has the whole model"

_UNSET = f"unset it, or {_INSTEAD}"


@dataclass(frozen=True)
class _Engine:
    """An accelerate engine that saving and resuming was never tested with."""

    variable: str  # set by `accelerate launch`, also from its config file
    name: str
    asked_by: str  # the flag of `accelerate launch`


ENGINES = (
    _Engine("ACCELERATE_USE_FSDP", "FSDP", "--use_fsdp"),
    _Engine("ACCELERATE_USE_DEEPSPEED", "DeepSpeed", "--use_deepspeed"),
    _Engine("ACCELERATE_USE_MEGATRON_LM", "Megatron-LM", "--use_megatron_lm"),
    _Engine("ACCELERATE_USE_PARALLELISM_CONFIG", "tensor, context or sharded parallelism", "--use_parallelism_config"),
)


def compile_backend(torch_compile: bool, dynamo_backend: str | None) -> str | None:
    """Return the compiler of the U-Net: --torch_compile with --dynamo_backend, else `accelerate launch --dynamo_backend`; None: not
    compiled."""
    name = dynamo_backend if torch_compile else os.environ.get(_BACKEND, "no").lower()
    return None if name in (None, "no") else name


def launch(options: OptionView) -> Iterator[Problem]:
    """Refuse engines that split the model, because saving and resuming with them is untested, and fp16 on a CPU."""
    yield from _process_numbers()
    for engine in ENGINES:
        if _is_on(engine.variable):
            yield coded(
                "OPT-019",
                f"{engine.variable}={os.environ[engine.variable]}: `accelerate launch` or its config file requests {engine.name}, "
                f"for which saves and --resume are not known to be exact; remove {engine.asked_by} and {_INSTEAD}",
            )
    if _is_on("ACCELERATE_USE_CPU") and options.mixed_precision == "fp16":  # set by `accelerate launch --cpu`
        yield coded(
            "OPT-018",
            f"{options.at('mixed_precision')} fp16: a CPU computes fp16 many times slower than fp32, and `accelerate launch --cpu` "
            "requests the CPU; use --mixed_precision bf16 or no, or leave out --cpu",
        )
    if _is_on("ACCELERATE_USE_SAGEMAKER") and os.environ.get("ACCELERATE_SAGEMAKER_DISTRIBUTED_TYPE", "NO").upper() != "NO":
        yield coded(
            "OPT-019",
            f"ACCELERATE_SAGEMAKER_DISTRIBUTED_TYPE={os.environ['ACCELERATE_SAGEMAKER_DISTRIBUTED_TYPE']}: SageMaker's own engines are not "
            f"supported; {_INSTEAD}",
        )
    if _trains_on_xla():
        yield coded(
            "OPT-019",
            "torch_xla is installed, so accelerate would train on a TPU or through XLA, which is not supported; set the environment "
            "variable USE_TORCH_XLA=0 (before `accelerate launch`), or uninstall torch_xla",
        )


def _process_numbers() -> Iterator[Problem]:
    """Refuse variables of the launcher that another program left, with which a run would be planned for processes that it does not have."""
    numbers: dict[str, int] = {}
    for name in _PROCESSES:
        text = os.environ.get(name)
        if text is None:
            continue
        if not re.fullmatch(r"-?\d{1,9}", text.strip(), re.ASCII):
            yield coded("OPT-006", f"environment variable {name}={quoted(text)}: is not a whole number; {_UNSET}")
            return
        numbers[name] = int(text)
    world, rank = numbers.get("WORLD_SIZE", 1), numbers.get("RANK", 0)
    if world > 1 and "LOCAL_RANK" not in numbers:
        yield coded("OPT-009", f"environment variable WORLD_SIZE={world}: needs LOCAL_RANK, which the launcher sets too; {_UNSET}")
    elif world < 1 or ("LOCAL_RANK" in numbers and not 0 <= rank < world):
        yield coded(
            "OPT-006", f"environment variables WORLD_SIZE={world} and RANK={rank}: a process with this number cannot exist; {_UNSET}"
        )


def compiling(options: OptionView) -> Iterator[Problem]:
    """What is compiled once per image size must not change in each update."""
    if options.cuda_graphs and not options.torch_compile:
        yield coded("OPT-009", f"{options.at('cuda_graphs')}: needs --torch_compile, which is missing")
    elif options.cuda_graphs and options.dynamo_backend != "inductor":
        yield coded("OPT-008", f"{options.at('cuda_graphs')}: works only with --dynamo_backend inductor, not with {options.dynamo_backend}")
    if options.cuda_graphs and (options.gradient_accumulation_steps or 1) > 1:
        yield coded(
            "OPT-008",
            f"{options.at('cuda_graphs')}: overwrites the gradients that --gradient_accumulation_steps adds up; remove one of them",
        )
    if compile_backend(bool(options.torch_compile), options.dynamo_backend) is None:
        return
    asked = options.at("torch_compile") if options.torch_compile else _BACKEND
    if options.no_token_padding:
        yield coded("OPT-008", f"{asked}: would compile again for each caption length without padding; remove it or --no_token_padding")
    module = options.network_module or ""
    if reason := why_not_compiled(module):
        yield coded("OPT-008", f"{asked}: cannot compile {module}, which {reason}; remove it")
    elif module and network_package(module).is_ours and _has_module_dropout(options.network_args or ()):
        yield coded("OPT-008", f"{asked}: cannot compile layers that are dropped at random; remove it or module_dropout")
    if options.prior_from_base is not None:
        yield from _taken_out(options, asked)


def _taken_out(options: OptionView, asked: str) -> Iterator[Problem]:
    """--prior_from_base runs the U-Net twice per update, once without its network."""
    if options.cuda_graphs:
        yield coded(
            "OPT-008",
            f"{options.at('cuda_graphs')}: each pass overwrites the last one's results, and --prior_from_base needs two; "
            "remove one of them",
        )
    if options.network_module and not network_package(options.network_module).is_ours:
        yield coded(
            "OPT-008",
            f"{asked}: compiles {options.network_module} into the U-Net, and --prior_from_base has to take it out; use networks.lora, "
            "or remove one of them",
        )


def attending(options: OptionView) -> Iterator[Problem]:
    """Only one kind of attention can be selected."""
    if options.sdpa_backend not in (None, "auto") and (options.mem_eff_attn or options.xformers or options.diffusers_xformers):
        yield coded(
            "OPT-008",
            f"{options.at('sdpa_backend')}: chooses among PyTorch's kernels, but --xformers or --mem_eff_attn replaces them; remove one",
        )


def _has_module_dropout(entries: Iterable[str]) -> bool:
    for entry in entries:
        key, _, value = entry.partition("=")
        if key.strip() == "module_dropout":
            try:
                return float(value) > 0
            except ValueError:  # reported when the network is created
                return False
    return False


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() in _ON


def _trains_on_xla() -> bool:
    """Whether accelerate selects XLA, even if other devices exist."""
    if os.environ.get("USE_TORCH_XLA", "1").strip().lower() not in _ON:
        return False
    try:
        return find_spec("torch_xla") is not None
    except (ImportError, ValueError):
        return False
