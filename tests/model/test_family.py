"""What is known of families before torch, and held against what others say of them."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from library.lora.layers import STABLE_DIFFUSION
from library.methods.network import NetworkMethod
from library.methods.network_settings import NetworkSettings
from library.model.family import FAMILIES, V1, V2, ModelFamily, family_of_base_version, family_of_flag, family_of_names
from library.model.load import load
from tests.listening import Heard
from tests.messages import refused


def test_families_are_known_without_torch() -> None:
    code = "import sys; import library.model.family; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_what_networks_are_named_by_default_is_what_both_families_say(family: ModelFamily) -> None:
    assert STABLE_DIFFUSION.unet == family.unet.lora_prefix
    assert STABLE_DIFFUSION.text_encoders == tuple(encoder.lora_prefix for encoder in family.text_encoders)


@pytest.mark.parametrize("module", ["lora", "dylora", "lora_fa"])
def test_our_networks_ask_for_prefixes_by_one_name(module: str) -> None:
    create = __import__(f"networks.{module}", fromlist=["create_network"])
    for make in (create.create_network, create.create_network_from_weights):
        assert inspect.signature(make).parameters["prefixes"].default is STABLE_DIFFUSION


@pytest.mark.parametrize(
    ("names", "family"),
    [
        (["cond_stage_model.transformer.text_model.embeddings.position_ids"], V1),
        (["model.diffusion_model.out.0.weight", "cond_stage_model.model.ln_final.weight"], V2),
        (["cond_stage_model.model.ln_final.weight", "cond_stage_model.transformer.final_layer_norm.weight"], V2),
        (["conditioner.embedders.0.transformer.text_model.final_layer_norm.weight"], None),
        ([], None),
    ],
)
def test_a_file_is_of_the_family_whose_text_encoder_it_has(names: list[str], family: ModelFamily | None) -> None:
    assert family_of_names(names) is family


@pytest.mark.parametrize(
    ("v2", "prediction", "name"),
    [(False, "epsilon", "sd_v1"), (False, "v_prediction", "sd_v1_v"), (True, "epsilon", "sd_v2"), (True, "v_prediction", "sd_v2_v")],
)
def test_what_programs_call_a_model_leads_back_to_its_family(v2: bool, prediction: str, name: str) -> None:
    assert family_of_flag(v2).base_version(prediction) == name
    assert family_of_base_version(name) is family_of_flag(v2)


def test_another_programs_name_is_of_no_family() -> None:
    assert family_of_base_version("sdxl_base_v1-0") is None and family_of_base_version("") is None


def test_only_v1_takes_clip_skip(heard: Heard) -> None:
    assert (V1.clip_skip(2), V2.clip_skip(2)) == (2, None)
    assert (V1.usable_clip_skip(2), V1.usable_clip_skip(None), V2.usable_clip_skip(None)) == (2, None, None)
    assert V2.usable_clip_skip(2) is None
    with refused("MODEL-015", "--clip_skip 0"):
        V2.usable_clip_skip(0)


def test_prefixes_are_the_models_and_no_argument_of_a_user(tiny_v1: Path) -> None:
    rates = {"learning_rate": 1e-3, "unet_lr": None, "text_encoder_lr": None}
    none = {"weights": None, "dim_from_weights": False, "scale_weight_norms": None, "base_weights": [], "gradient_checkpointing": False}
    args = {"prefixes": "mine_"}
    settings = NetworkSettings("networks.lora", 4, 1.0, None, args, train_unet=True, train_text_encoder=True, **rates, **none)
    with refused("LORA-007", "--network_args prefixes", "remove it"):
        NetworkMethod(settings).attach(load(tiny_v1))
