"""Files of an earlier run that a run would overwrite."""

from __future__ import annotations

from collections.abc import Iterator

from library.data.scan.findings import WARNING, Finding
from library.model.files.facts import ModelFacts
from library.options.groups.scripts import TrainingScript
from library.paths.look import exists
from library.training.saving.checkpointer import FileNames


def overwritten(script: TrainingScript, facts: ModelFacts | None) -> Iterator[Finding]:
    """Yield a warning for each file of an earlier run that this one would overwrite; none for a resumed run, where this is intended.

    `facts` are those of the model, whose format a model is saved in without --save_model_as; None if they are unknown.
    """
    options = script.saving
    if not options.output_dir or options.resume is not None:
        return
    form = options.save_model_as or ("" if facts is None else facts.layout)
    if form == "ckpt" and options.use_safetensors:
        form = "safetensors"
    for suffix in script.product_suffixes:
        name, ending = f"{options.output_name or 'last'}{suffix}", "" if form.startswith("diffusers") else f".{form}"
        path = FileNames(options.folder, name, ending).last()
        if form and exists(path):
            text = f"--output_dir {path.parent}: {path.name} already exists and will be overwritten"
            yield Finding(WARNING, text, "choose another --output_name")
