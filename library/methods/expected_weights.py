"""How many weights each method's product will hold, for --dry_run: known before torch is imported."""

from __future__ import annotations

from library.lora.expected_size import RULES, ranks_in_file
from library.method import ExpectedWeights
from library.model.family import ModelFamily, PartSizes
from library.options.groups.scripts import FullModelScript, TrainNetwork, TrainTextualInversion


def of_network(options: TrainNetwork, sizes: PartSizes, family: ModelFamily) -> ExpectedWeights:
    """Those of the network, where its module has a rule."""
    module = options.network.network_module or ""
    if module not in RULES:
        return ExpectedWeights(None, None, known_by=module)
    count = RULES[module](options.network, sizes)
    words = sum(word.vectors for word in options.words.words) * family.word_width
    product = count * ranks_in_file(options.network) + words
    return ExpectedWeights(product * (2 if words and options.words.save_words == "both" else 1), count + words)


def of_full_model(options: FullModelScript, sizes: PartSizes, family: ModelFamily) -> ExpectedWeights:
    """The whole model, of which the VAE is never trained."""
    trained = sizes.unet + (sizes.text_encoder if options.trains_text_encoder else 0)
    return ExpectedWeights(sizes.unet + sizes.text_encoder + sizes.vae, trained)


def of_word(options: TrainTextualInversion, sizes: PartSizes, family: ModelFamily) -> ExpectedWeights:
    """The words' vectors, once or for each layer that has its own."""
    count = sum(word.vectors for word in options.word.words) * family.word_width * options.layers_with_vectors
    return ExpectedWeights(count, count)
