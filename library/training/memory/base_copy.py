"""The frozen copy that `--prior_from_base` needs of what is trained of a whole model: its size, before anything is loaded."""

from __future__ import annotations

from library.containers.weights_file import open_weights
from library.model.files.facts import OPTION, ModelFacts, classic_infos
from library.model.files.part_sizes import loaded_text_encoder, part_sizes
from library.options.groups.scripts import FullModelScript, TrainingScript
from library.training.planning.part_rates import part_rates
from library.words import in_words


def copy_lines(options: TrainingScript, facts: ModelFacts | None) -> list[str]:
    """The line of the plan; none where there is no copy, since a network is put beside the model. Raises UserError for a file that cannot
    be read."""
    if options.data.prior_from_base is None or not isinstance(options, FullModelScript) or facts is None:
        return []
    rates = part_rates(options)
    if facts.layout == "diffusers":  # its parts lie in several files: it counts as a released model
        about, unet, text = "about ", facts.family.sizes.unet, facts.family.sizes.text_encoder
    else:
        infos = classic_infos(open_weights(facts.path, OPTION).infos)
        about, unet, text = "", part_sizes(infos).unet, loaded_text_encoder(infos)
    values = unet * ("unet" in rates) + text * ("textencoder" in rates)
    width = 4 if options.training.mixed_precision == "no" else 2
    return [f"memory: a frozen copy of what is trained takes {about}{in_words(values * width)} (--prior_from_base)"]
