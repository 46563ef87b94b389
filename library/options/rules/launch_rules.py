"""How accelerate was told to train: by several processes that each hold the whole model, and by no other engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

from library.errors import Problem, coded
from library.options.rules.option_view import Given

_ON = frozenset({"1", "true", "yes", "y", "on", "t"})  # as accelerate reads its variables
_INSTEAD = "start with `accelerate launch --multi_gpu --num_processes N`, where each process holds the whole model"


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


def launch(given: Given) -> Iterator[Problem]:
    """No engine that splits the model: what it saves, and how a run goes on from it, nobody has tried."""
    for engine in ENGINES:
        if _is_on(engine.variable):
            yield coded(
                "OPT-019",
                f"{engine.variable}={os.environ[engine.variable]}: `accelerate launch` or its config file asks for {engine.name}, with "
                f"which saves and --resume are not known to be exact; leave {engine.asked_by} out and {_INSTEAD}",
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
