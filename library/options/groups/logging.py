"""Options of the training log."""

from __future__ import annotations

from dataclasses import dataclass

from library.options.declare import opt


@dataclass(frozen=True)
class LoggingOptions:
    """Training log"""

    logging_dir: str | None = opt(
        None, "Write a log of losses and learning rates to this folder; `tensorboard --logdir <folder>` shows it.", path="new folder"
    )
    log_with: str | None = opt(
        None,
        "Where the log goes; tensorboard when left out.",
        choices=("tensorboard", "wandb", "all"),
    )
    log_prefix: str | None = opt(
        None, "Text in front of the date in the name of the log folder, to tell runs apart.", path="part of a path"
    )
    log_tracker_name: str | None = opt(None, "Name of the run (tensorboard) or project (wandb) in the log.", path="part of a path")
    log_tracker_config: str | None = opt(None, "A .toml file with settings for the log's tracker.", path="file")
    wandb_run_name: str | None = opt(None, "Name of the run at Weights & Biases; the output name when left out.")
    log_config: bool = opt(False, "Keep the options in the TensorBoard log too, without secrets and paths (Weights & Biases has them).")
    image_ledger: bool = opt(
        False,
        "At each save write <name>.images.jsonl and a page <name>.images.html: of each image how often it was shown, with which captions, "
        "how hard it is beside the others and how much of it was learned. Finds wrong captions and pictures that do not belong.",
    )
    console_log_level: str | None = opt(
        None,
        "What is told at least: WARNING leaves the lines about images, plan and saves out, ERROR warnings too. INFO when left out.",
        choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
    )
    console_log_file: str | None = opt(
        None, "Write what is told to this file, over what it holds, instead of the screen. Errors go to both.", path="new file"
    )
    console_log_simple: bool = opt(False, "Plain lines without colours and frames, which is what is written in any case.")
    wandb_api_key: str | None = opt(None, "Your Weights & Biases key. Never shown, logged or stored.", secret=True)
