"""Options for where, when and in which format results are saved, on disk and on the Hugging Face Hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from library.options.bounds import MOST_EPOCHS, MOST_MINUTES, MOST_STEPS
from library.options.declare import Leniency, opt


@dataclass(frozen=True)
class SavingOptions:
    """Saving results"""

    @property
    def folder(self) -> Path:
        """--output_dir, which `check` requires."""
        assert self.output_dir is not None
        return Path(self.output_dir)

    @property
    def save_model_as(self) -> str | None:
        """The format of the result; each script has different choices."""
        raise NotImplementedError

    @property
    def use_safetensors(self) -> bool:
        """Only for scripts that save whole models."""
        return False

    output_dir: str | None = opt(None, "Folder for the results; created if missing. Always needed.", path="new folder")
    output_name: str | None = opt(None, "Name of the result files, without extension. Default: 'last'.", path="part of a name")
    save_precision: str | None = opt(
        None,
        "Number format of the saved file: float (32 bits), fp16 or bf16 (half the size). Default: as trained.",
        choices=("float", "fp16", "bf16"),
    )
    save_every_n_epochs: int | None = opt(
        None, "Also save every N epochs, as <name>-000002.", at_least=1, at_most=MOST_EPOCHS, leniency=Leniency(zero_is_off=True)
    )
    save_every_n_steps: int | None = opt(
        None, "Also save every N updates, as <name>-step00000100.", at_least=1, at_most=MOST_STEPS, leniency=Leniency(zero_is_off=True)
    )
    save_at_steps: tuple[int, ...] = opt(
        (),
        "Also save after these updates, such as 500,800,1200. --save_last_n_steps never deletes them.",
        at_least=1,
        at_most=MOST_STEPS,
        leniency=Leniency(commas=True),
    )
    save_from_epoch: int | None = opt(
        None,
        "Skip the saves by epoch before this epoch (the first is 1).",
        at_least=1,
        at_most=MOST_EPOCHS,
        leniency=Leniency(zero_is_off=True),
    )
    save_n_epoch_ratio: int | None = opt(
        None,
        "Also save often enough to get at least N saves over the run.",
        at_least=1,
        at_most=MOST_EPOCHS,
        leniency=Leniency(zero_is_off=True),
    )
    save_last_n_epochs: int | None = opt(
        None,
        "Keep the epoch saves of the last N epochs and delete older ones.",
        at_least=1,
        at_most=MOST_EPOCHS,
        leniency=Leniency(zero_is_off=True),
    )
    save_last_n_epochs_state: int | None = opt(
        None, "The same for saved states, if different.", at_least=1, at_most=MOST_EPOCHS, leniency=Leniency(zero_is_off=True)
    )
    save_last_n_steps: int | None = opt(
        None,
        "Keep the saves of the last N updates and delete older ones.",
        at_least=1,
        at_most=MOST_STEPS,
        leniency=Leniency(zero_is_off=True),
    )
    save_last_n_steps_state: int | None = opt(
        None, "The same for saved states, if different.", at_least=1, at_most=MOST_STEPS, leniency=Leniency(zero_is_off=True)
    )
    save_state: bool = opt(False, "With each save also save the full training state, to resume exactly from there (a large folder).")
    save_state_on_train_end: bool = opt(
        False, "Save such a state when training ends or is stopped, and when a file `save` requests it; also without --save_state."
    )
    on_full_disk: str = opt(
        "stop",
        "If there is no space for a save, neither in --spare_dir nor after --full_disk_wait: stop, or continue and skip that save "
        "(without waiting, unless it is the last one). Earlier saves are kept in both cases.",
        choices=("stop", "continue"),
    )
    spare_dir: str | None = opt(
        None,
        "A folder on another disk for saves that do not fit into --output_dir or cannot be written there.",
        path="new folder",
    )
    full_disk_wait: float = opt(
        30.0,
        "Minutes to wait and retry before a save is lost because the disk is full; 0 does not wait.",
        at_least=0,
        at_most=MOST_MINUTES,
    )
    resume: str | None = opt(None, "Resume from this saved state: the folder <name>-...-state, not its parent.", path="folder")
    resume_lr: str = opt(
        "keep",
        "With --resume: keep continues with the state's learning rates, new uses those of the command.",
        choices=("keep", "new"),
    )
    initial_epoch: int | None = opt(
        None,
        "Start at this epoch (the first is 1): earlier epochs count as done, in names, randomness and the run's length. The learning "
        "rate schedule still starts from its beginning, unless --resume restores it. Overrides the counters of --resume.",
        at_least=1,
        at_most=MOST_EPOCHS,
    )
    initial_step: int | None = opt(
        None,
        "The same in updates over all epochs: this many count as done. Overrides --initial_epoch. The epoch of this update is trained "
        "from its first image, unless --skip_until_initial_step is set.",
        at_least=0,
        at_most=MOST_STEPS,
    )
    skip_until_initial_step: bool = opt(
        False, "With --initial_step: skip the images of that epoch that earlier updates used. Takes no time."
    )
    metadata_title: str | None = opt(None, "Title of the result, kept in its metadata. Default: its name.")
    metadata_author: str | None = opt(None, "Who made it, kept in its metadata.")
    metadata_description: str | None = opt(None, "What it is, kept in its metadata.")
    metadata_license: str | None = opt(None, "The result's license, kept in its metadata.")
    metadata_tags: str | None = opt(None, "Keywords, separated by commas, kept in its metadata.")
    metadata_usage_hint: str | None = opt(None, "How to use it, kept in its metadata.")
    metadata_trigger_phrase: str | None = opt(None, "The words that trigger what was trained, kept in its metadata.")
    metadata_thumbnail: str | None = opt(
        None, "A small image (256 pixels) kept in its metadata: a .png, .jpg, .webp or .gif file, or a data: URL.", path="file or data URL"
    )
    metadata_merged_from: str | None = opt(None, "Names of the models it was merged from, separated by commas, kept in its metadata.")
    metadata_preprocessor: str | None = opt(None, "How its inputs must be prepared, kept in its metadata.")
    metadata_is_negative_embedding: str | None = opt(
        None, "Whether it is an embedding for negative prompts: true or false, kept in its metadata."
    )
    metadata_privacy: str = opt(
        "full",
        "What the file records about its training. no_paths: no names of folders or files; technical: settings and figures only, no tags, "
        "captions, class words or names.",
        choices=("full", "no_paths", "technical"),
    )
    no_metadata: bool = opt(False, "Do not write the training settings to the file.")


@dataclass(frozen=True)
class NetworkSavingOptions(SavingOptions):
    """Saving results"""

    save_model_as: str = opt(
        "safetensors",
        "File format of the result. Use safetensors unless an old program needs another.",
        choices=("ckpt", "pt", "safetensors"),
    )
    training_comment: str | None = opt(None, "A comment kept in the file's metadata, such as a trigger word.")


@dataclass(frozen=True)
class HubOptions:
    """Hugging Face Hub"""

    huggingface_repo_id: str | None = opt(None, "Upload each save to this repository, as your-name/your-model.")
    huggingface_repo_type: str | None = opt(None, "Type of that repository: model (default), dataset or space.")
    huggingface_path_in_repo: str | None = opt(None, "Folder inside the repository.")
    huggingface_token: str | None = opt(None, "Your access token. Never shown, logged or stored; `hf auth login` is safer.", secret=True)
    huggingface_repo_visibility: str | None = opt(
        None,
        "Whether a new repository is public (visible to all); any other value makes it private. Default: private.",
    )
    save_state_to_huggingface: bool = opt(False, "With --save_state: upload states too.")
    resume_from_huggingface: bool = opt(
        False,
        "With --resume: fetch the state from the Hub, named {repo_id}/{path_in_repo}:{revision}:{repo_type}.",
    )
    async_upload: bool = opt(False, "Upload while training continues.")
