"""The size of the frozen copy that `--prior_from_base` makes of the trained parts of a whole model, before anything is loaded."""

from __future__ import annotations

from library.containers.weights_file import open_weights
from library.model.files.facts import OPTION, ModelFacts, classic_infos
from library.model.files.part_sizes import loaded_text_encoder, part_sizes
from library.options.groups.scripts import FullModelScript, TrainingScript
from library.training.planning.part_rates import part_rates
from library.words import in_words


def copy_lines(options: TrainingScript, facts: ModelFacts | None) -> list[str]:
    """The plan's line about the copy; empty for a network, which leaves the base model unchanged and needs no copy.

    Raises UserError for a file that cannot be read.
    """
    if options.data.prior_from_base is None or not isinstance(options, FullModelScript) or facts is None:
        return []
    rates = part_rates(options)
    if facts.layout == "diffusers":  # its parts are in several files: use the sizes of a released model
        about, unet, text = "about ", facts.family.sizes.unet, facts.family.sizes.text_encoder
    else:
        infos = classic_infos(open_weights(facts.path, OPTION).infos)
        about, unet, text = "", part_sizes(infos).unet, loaded_text_encoder(infos)
    values = unet * ("unet" in rates) + text * ("textencoder" in rates)
    width = 4 if options.training.mixed_precision == "no" else 2
    return [f"memory: a frozen copy of what is trained takes {about}{in_words(values * width)} (--prior_from_base)"]
