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
        "Where the log goes. Default: tensorboard.",
        choices=("tensorboard", "wandb", "all"),
    )
    log_prefix: str | None = opt(None, "Text before the date in the name of the log folder, to distinguish runs.", path="part of a path")
    log_tracker_name: str | None = opt(None, "Name of the run (tensorboard) or project (wandb) in the log.", path="part of a path")
    log_tracker_config: str | None = opt(None, "A .toml file with settings for the log's tracker.", path="file")
    wandb_run_name: str | None = opt(None, "Name of the run at Weights & Biases. Default: the output name.")
    log_config: bool = opt(False, "Also log the options to TensorBoard, without secrets and paths (Weights & Biases always gets them).")
    image_ledger: bool = opt(
        False,
        "At each save write <name>.images.jsonl and a page <name>.images.html: for each image how often it was shown, with which captions, "
        "how hard it is compared with the others and how much of it was learned. Finds wrong captions and images that do not belong.",
    )
    console_log_level: str | None = opt(
        None,
        "Least severe lines to show: WARNING hides the lines about images, plan and saves, ERROR hides warnings too. Default: INFO.",
        choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
    )
    console_log_file: str | None = opt(
        None,
        "Write the console output to this file instead of the screen; an existing file is overwritten. Errors go to both.",
        path="new text",
    )
    console_log_simple: bool = opt(False, "Plain lines without colours and frames, which the suite always writes.")
    wandb_api_key: str | None = opt(None, "Your Weights & Biases key. Never shown, logged or stored.", secret=True)
