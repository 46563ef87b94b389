"""How accelerate was told to train: by several processes that each hold the whole model, and by no other engine; and what is compiled."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec

from library.errors import Problem, coded
from library.options.rules.option_view import Given
from library.packages import network_package, why_not_compiled

_ON = frozenset({"1", "true", "yes", "y", "on", "t"})  # as accelerate reads its variables
_BACKEND = "ACCELERATE_DYNAMO_BACKEND"  # set by `accelerate launch --dynamo_backend`
_INSTEAD = "start with `accelerate launch --multi_gpu --num_processes N`, where each process has the whole model"


@dataclass(frozen=True)
class _Engine:
    """An engine of accelerate's that no run has been saved and resumed with."""

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
    """What compiles the U-Net, by --torch_compile with --dynamo_backend, or else by `accelerate launch --dynamo_backend`; None: nothing."""
    name = dynamo_backend if torch_compile else os.environ.get(_BACKEND, "no").lower()
    return None if name in (None, "no") else name


def launch(given: Given) -> Iterator[Problem]:
    """No engine that splits the model: what it saves, and how a run goes on from it, nobody has tried. No fp16 on a CPU."""
    for engine in ENGINES:
        if _is_on(engine.variable):
            yield coded(
                "OPT-019",
                f"{engine.variable}={os.environ[engine.variable]}: `accelerate launch` or its config file requests {engine.name}, "
                f"for which saves and --resume are not known to be exact; remove {engine.asked_by} and {_INSTEAD}",
            )
    if _is_on("ACCELERATE_USE_CPU") and given.mixed_precision == "fp16":  # set by `accelerate launch --cpu`
        yield coded(
            "OPT-018",
            f"{given.at('mixed_precision')}: fp16 is many times slower than fp32 on a CPU, and `accelerate launch --cpu` requests the CPU; "
            "use --mixed_precision bf16 or no, or remove --cpu",
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


def compiling(given: Given) -> Iterator[Problem]:
    """What is compiled once for each image size must not be another thing in each update."""
    if given.cuda_graphs and not given.torch_compile:
        yield coded("OPT-009", f"{given.at('cuda_graphs')}: needs --torch_compile, which is missing")
    elif given.cuda_graphs and given.dynamo_backend != "inductor":
        yield coded("OPT-008", f"{given.at('cuda_graphs')}: works only with --dynamo_backend inductor, not with {given.dynamo_backend}")
    if given.cuda_graphs and (given.gradient_accumulation_steps or 1) > 1:
        yield coded(
            "OPT-008",
            f"{given.at('cuda_graphs')}: overwrites the gradients that --gradient_accumulation_steps adds up; remove one of them",
        )
    if compile_backend(bool(given.torch_compile), given.dynamo_backend) is None:
        return
    asked = given.at("torch_compile") if given.torch_compile else _BACKEND
    if given.no_token_padding:
        yield coded("OPT-008", f"{asked}: would compile again for each caption length without padding; remove it or --no_token_padding")
    module = given.network_module or ""
    if reason := why_not_compiled(module):
        yield coded("OPT-008", f"{asked}: cannot compile {module}, which {reason}; remove it")
    elif module and network_package(module).is_ours and _has_module_dropout(given.network_args or ()):
        yield coded("OPT-008", f"{asked}: cannot compile layers that are dropped at random; remove it or module_dropout")
    if given.prior_from_base is not None:
        yield from _taken_out(given, asked)


def _taken_out(given: Given, asked: str) -> Iterator[Problem]:
    """--prior_from_base asks the U-Net twice in an update, once without its network."""
    if given.cuda_graphs:
        yield coded(
            "OPT-008",
            f"{given.at('cuda_graphs')}: each pass overwrites the last one's results, and --prior_from_base needs two; remove one of them",
        )
    if given.network_module and not network_package(given.network_module).is_ours:
        yield coded(
            "OPT-008",
            f"{asked}: compiles {given.network_module} into the U-Net, and --prior_from_base has to take it out; use networks.lora, "
            "or remove one of them",
        )


def attending(given: Given) -> Iterator[Problem]:
    """One choice of what attends."""
    if given.sdpa_backend not in (None, "auto") and (given.mem_eff_attn or given.xformers or given.diffusers_xformers):
        yield coded(
            "OPT-008",
            f"{given.at('sdpa_backend')}: chooses among PyTorch's kernels, but --xformers or --mem_eff_attn replaces them; remove one",
        )


def _has_module_dropout(entries: Iterable[str]) -> bool:
    for entry in entries:
        key, _, value = entry.partition("=")
        if key.strip() == "module_dropout":
            try:
                return float(value) > 0
            except ValueError:  # told where the network is made
                return False
    return False


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() in _ON


def _trains_on_xla() -> bool:
    """As accelerate decides it, whatever other devices there are."""
    if os.environ.get("USE_TORCH_XLA", "1").strip().lower() not in _ON:
        return False
    try:
        return find_spec("torch_xla") is not None
    except (ImportError, ValueError):
        return False
