"""What --dry_run says of a method's weights before torch is there, against networks and models of full size, made without memory."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from benchmarks.make_model import SIZES, _parts
from library.method import ExpectedWeights
from library.methods import expected_weights
from library.model.family import FAMILIES, V1
from library.options.groups.scripts import FineTune, TrainDb, TrainNetwork, TrainTextualInversion, TrainTextualInversionXti
from library.options.reading.parse import parse
from networks.lora import create_network

VERSIONS = ("v1", "v2")


@cache
def parts(version: str) -> dict[str, torch.nn.Module]:
    return _parts(version, SIZES[version, "full"])


@cache
def lora(version: str, conv: str | None) -> torch.nn.Module:
    extra = {} if conv is None else {"conv_dim": conv}
    with torch.device("meta"):
        return create_network(1.0, 3, 1, None, parts(version)["text_encoder"], parts(version)["unet"], **extra)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("conv", [None, "2"])
@pytest.mark.parametrize(
    ("flag", "trained"),
    [
        ([], ("lora_te", "lora_unet")),
        (["--network_train_unet_only"], ("lora_unet",)),
        (["--network_train_text_encoder_only"], ("lora_te",)),
    ],
)
def test_a_lora_has_the_weights_of_the_network_that_is_made(
    version: str, conv: str | None, flag: list[str], trained: tuple[str, ...]
) -> None:
    words = ["--network_module", "networks.lora", "--network_dim", "3", *flag]
    words += [] if conv is None else ["--network_args", f"conv_dim={conv}"]
    expected = expected_weights.of_network(parse(TrainNetwork, words), FAMILIES[version].sizes, FAMILIES[version])
    count = sum(weight.numel() for name, weight in lora(version, conv).named_parameters() if name.startswith(trained))
    assert expected == ExpectedWeights(count, count)


@pytest.mark.parametrize("init", ["pissa", "olora", "orthogonal"])
def test_a_file_has_the_start_too_where_it_is_subtracted(init: str) -> None:
    words = ["--network_module", "networks.lora", "--network_dim", "4", "--network_args", f"init={init}"]
    plain = expected_weights.of_network(parse(TrainNetwork, words[:-2]), V1.sizes, V1)
    found = expected_weights.of_network(parse(TrainNetwork, words), V1.sizes, V1)
    assert found.trained == plain.trained and found.product == (1 if init == "orthogonal" else 2) * plain.product


@pytest.mark.parametrize("module", ["lycoris.kohya", "networks.dylora", "my.network"])
def test_a_network_module_without_a_rule_is_the_one_that_knows(module: str) -> None:
    expected = expected_weights.of_network(parse(TrainNetwork, ["--network_module", module]), V1.sizes, V1)
    assert expected == ExpectedWeights(None, None, known_by=module)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("vectors", [1, 4])
def test_a_word_has_vectors_as_wide_as_the_text_encoder_and_in_xti_for_each_cross_attention(version: str, vectors: int) -> None:
    words = ["--token_string", "zog", "--num_vectors_per_token", str(vectors)]
    width = vectors * parts(version)["text_encoder"].config.hidden_size
    plain = expected_weights.of_word(parse(TrainTextualInversion, words), FAMILIES[version].sizes, FAMILIES[version])
    assert plain == ExpectedWeights(width, width)
    layers = sum(name.endswith("attn2") for name, _ in parts(version)["unet"].named_modules())
    by_layer = expected_weights.of_word(parse(TrainTextualInversionXti, words), FAMILIES[version].sizes, FAMILIES[version])
    assert by_layer == ExpectedWeights(width * layers, width * layers)


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (expected_weights.of_full_model(parse(TrainDb, []), V1.sizes, V1), True),
        (expected_weights.of_full_model(parse(TrainDb, ["--stop_text_encoder_training", "-1"]), V1.sizes, V1), False),
        (expected_weights.of_full_model(parse(FineTune, []), V1.sizes, V1), False),
        (expected_weights.of_full_model(parse(FineTune, ["--train_text_encoder"]), V1.sizes, V1), True),
    ],
)
def test_a_whole_model_is_saved_whole_and_trained_without_vae(expected: ExpectedWeights, text: bool) -> None:
    counts = {part: sum(weight.numel() for weight in module.parameters()) for part, module in parts("v1").items()}
    counts["text_encoder"] += 77  # position ids, which stand in the file
    assert expected == ExpectedWeights(sum(counts.values()), counts["unet"] + (counts["text_encoder"] if text else 0))
