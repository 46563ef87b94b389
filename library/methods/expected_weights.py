"""The number of weights in each method's product, for --dry_run: known before torch is imported."""

from __future__ import annotations

from library.lora.expected_size import RULES, ranks_in_file
from library.method import ExpectedWeights
from library.model.family import ModelFamily, PartSizes
from library.options.groups.scripts import FullModelScript, TrainNetwork, TrainTextualInversion


def of_network(options: TrainNetwork, sizes: PartSizes, family: ModelFamily) -> ExpectedWeights:
    """The weights of the network, if its module has a rule."""
    module = options.network.network_module or ""
    if module not in RULES:
        return ExpectedWeights(None, None, known_by=module)
    count = RULES[module](options.network, sizes)
    words = sum(word.vectors for word in options.words.words) * family.word_width
    product = count * ranks_in_file(options.network) + words
    return ExpectedWeights(product * (2 if words and options.words.save_words == "both" else 1), count + words)


def of_full_model(options: FullModelScript, sizes: PartSizes, family: ModelFamily) -> ExpectedWeights:
    """The weights of the whole model; the VAE is never trained."""
    trained = sizes.unet + (sizes.text_encoder if options.trains_text_encoder else 0)
    return ExpectedWeights(sizes.unet + sizes.text_encoder + sizes.vae, trained)


def of_word(options: TrainTextualInversion, sizes: PartSizes, family: ModelFamily) -> ExpectedWeights:
    """The numbers in the words' vectors, once or per layer with separate vectors."""
    count = sum(word.vectors for word in options.word.words) * family.word_width * options.layers_with_vectors
    return ExpectedWeights(count, count)
