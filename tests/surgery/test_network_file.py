"""Network files of other kinds and by other programs: their ΔW compared with LyCORIS', their names, and check_lora_weights.py."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file

from library.surgery.deltas import delta, own_delta
from library.surgery.network_file import open_network
from networks import extract_lora_from_dylora, extract_lora_from_models, merge_lora, resize_lora, svd_merge_lora
from networks.check_lora_weights import main as check
from tests.messages import message, refusal, refused
from tests.scripts.running import run_in_process
from tests.surgery.conftest import deltas, relative

KEY = "lora_unet_mid_block_attentions_0_proj_in"


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape)


def opened(path: Path, **tensors: torch.Tensor):
    save_file({f"{KEY}.{name.replace('__', '.')}": value for name, value in tensors.items()}, path)
    return open_network(path, "--models")


CASES = {
    "loha": (dict(hada_w1_a=(6, 2), hada_w1_b=(2, 5), hada_w2_a=(6, 2), hada_w2_b=(2, 5)), (6, 5)),
    "loha of a convolution": (dict(hada_w1_a=(6, 2), hada_w1_b=(2, 45), hada_w2_a=(6, 2), hada_w2_b=(2, 45)), (6, 5, 3, 3)),
    "loha with cores": (
        dict(hada_t1=(2, 2, 3, 3), hada_w1_a=(2, 6), hada_w1_b=(2, 5), hada_t2=(2, 2, 3, 3), hada_w2_a=(2, 6), hada_w2_b=(2, 5)),
        (6, 5, 3, 3),
    ),
    "lokr of two whole factors": (dict(lokr_w1=(2, 3), lokr_w2=(4, 5)), (8, 15)),
    "lokr": (dict(lokr_w1=(2, 3), lokr_w2_a=(4, 2), lokr_w2_b=(2, 5)), (8, 15)),
    "lokr of two products": (dict(lokr_w1_a=(2, 2), lokr_w1_b=(2, 3), lokr_w2_a=(4, 2), lokr_w2_b=(2, 5)), (8, 15)),
    "lokr with a core": (dict(lokr_w1=(2, 3), lokr_t2=(2, 2, 3, 3), lokr_w2_a=(2, 4), lokr_w2_b=(2, 5)), (8, 15, 3, 3)),
    "locon with a core": (dict(lora_down__weight=(2, 5, 1, 1), lora_mid__weight=(2, 2, 3, 3), lora_up__weight=(6, 2, 1, 1)), (6, 5, 3, 3)),
}


@pytest.mark.parametrize("name", CASES)
def test_what_other_kinds_add_is_what_lycoris_says(name: str, tmp_path: Path) -> None:
    lycoris = pytest.importorskip("lycoris.functional")
    torch.manual_seed(0)
    shapes, shape = CASES[name]
    tensors = {part: random(*size) for part, size in shapes.items()}
    actual = delta(opened(tmp_path / "x.safetensors", **tensors, alpha=torch.tensor(0.5)), KEY, shape)
    if "loha" in name:
        order = ("hada_w1_b", "hada_w1_a", "hada_w2_b", "hada_w2_a", "hada_t1", "hada_t2")
        theirs = lycoris.loha.diff_weight(*(tensors.get(part) for part in order), gamma=0.25)
    elif "lokr" in name:
        order = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")
        # Of a core it divides by the output size, where its files and its training mean the rank: 4 and 2 here.
        gamma = 1.0 if "lokr_t2" in tensors else 0.5
        theirs = lycoris.lokr.diff_weight(*(tensors.get(part) for part in order), gamma=gamma)
    else:
        up, middle, down = (tensors[f"lora_{part}__weight"] for part in ("up", "mid", "down"))
        theirs = 0.25 * torch.einsum("or,rskl,sn->onkl", up[:, :, 0, 0], middle, down[:, :, 0, 0])
    torch.testing.assert_close(actual, theirs.reshape(shape), rtol=1e-4, atol=1e-5)


def test_a_locon_with_a_core_is_also_a_lora_of_the_same_rank(tmp_path: Path) -> None:
    from library.lora.layers import delta_weight

    torch.manual_seed(0)
    tensors = {part: random(*size) for part, size in CASES["locon with a core"][0].items()}
    network = opened(tmp_path / "x.safetensors", **tensors)
    module = network.lora(KEY)
    assert module.down.shape == (2, 5, 3, 3)
    torch.testing.assert_close(delta_weight(module.down, module.up, 1.0), own_delta(network, KEY))


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ("unet.{}.lora_A.weight", "unet.{}.lora_B.weight"),
        ("base_model.model.unet.{}.lora_A.default.weight", "base_model.model.unet.{}.lora_B.default.weight"),
        ("unet.{}.lora.down.weight", "unet.{}.lora.up.weight"),
    ],
)
def test_names_of_diffusers_and_peft_are_read(files, tmp_path: Path, down: str, up: str) -> None:
    ours = load_file(files["a"])
    path = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    key = "lora_unet_" + path.replace(".", "_")
    save_file(
        {down.format(path): ours[f"{key}.lora_down.weight"], up.format(path): ours[f"{key}.lora_up.weight"]}, tmp_path / "p.safetensors"
    )
    network = open_network(tmp_path / "p.safetensors", "--models")
    assert list(network.modules) == [key] and network.foreign
    assert relative(own_delta(network, key), 2 * deltas(files["a"])[key]) < 1e-6  # no alpha: that of the rank, where ours has half


def test_the_old_processors_and_the_text_encoder_have_their_names_too(tmp_path: Path) -> None:
    head = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_out_lora"
    text = "text_encoder.text_model.encoder.layers.1.self_attn.q_proj.lora_linear_layer"
    names = [f"{head}.down.weight", f"{head}.up.weight", f"{text}.down.weight", f"{text}.up.weight"]
    save_file({name: random(2, 2) for name in names}, tmp_path / "p.safetensors")
    assert set(open_network(tmp_path / "p.safetensors", "--models").modules) == {
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0",
        "lora_te_text_model_encoder_layers_1_self_attn_q_proj",
    }


def test_a_sound_file_is_described_and_nothing_is_found(files, capsys) -> None:
    assert run_in_process(check, files["c"]) == 0
    output = capsys.readouterr().out
    message(output, "c.safetensors", "Stable Diffusion", "text width of 64", "F32")
    message(output, "modules: 177 in the U-Net, 12 in the text encoder")
    message(output, "rank: 3 to 8 (2 values)", "alpha: 1 to 2 (2 values)")
    message(output, "nothing suspicious")
    message(output, "yes  AUTOMATIC1111 web UI")
    assert "…" in output
    largest = max(deltas(files["c"]).items(), key=lambda item: float(item[1].norm()))
    row = next(line for line in output.splitlines() if line.endswith(largest[0]))
    assert float(row.split()[0]) == pytest.approx(float(largest[1].norm()), rel=1e-3)
    assert run_in_process(check, files["c"], "--verbose") == 0
    assert sum("lora_" in line for line in capsys.readouterr().out.splitlines()) >= 189


@pytest.mark.parametrize("flag", ["--show_all_keys", "-s", "--s"])
def test_every_tensor_is_listed_where_that_is_asked_for(files, capsys, flag: str) -> None:
    tensors = load_file(files["c"])
    assert run_in_process(check, files["c"], flag) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{len(tensors)} tensors: ")
    shown = {line.split("  ")[0]: line.split("  ")[1:] for line in lines[1 : len(tensors) + 1]}
    assert shown.keys() == tensors.keys()
    for name, (shape, mean, least) in shown.items():
        sizes = tensors[name].abs()
        assert shape == ("-".join(map(str, sizes.shape)) or "single number")
        assert float(mean) == pytest.approx(float(sizes.mean()), rel=1e-3) and float(least) == pytest.approx(float(sizes.min()), rel=1e-3)


def test_every_fault_is_found(files, tmp_path: Path, capsys) -> None:
    weights = load_file(files["a"])
    first, second, third, fourth, fifth, sixth = list(dict.fromkeys(name.split(".")[0] for name in weights))[:6]
    weights[f"{first}.lora_up.weight"] = weights[f"{first}.lora_up.weight"] * 0
    weights[f"{second}.lora_down.weight"][1] = weights[f"{second}.lora_down.weight"][0]
    weights[f"{third}.alpha"] = torch.tensor(64.0)
    del weights[f"{fourth}.alpha"]
    weights[f"{fifth}.lora_up.weight"] *= 1e4
    path = tmp_path / "x.safetensors"
    save_file(weights, path)
    assert run_in_process(check, path) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("finding: ")]
    assert [(line.split(": ")[1].split()[0], line.rpartition(": ")[2]) for line in lines] == [
        ("1", first), ("1", fourth), ("1", third), ("1", second), ("1", fifth),
    ]  # fmt: skip
    assert "no effect" in lines[0] and "no alpha" in lines[1] and "3 of 4" in lines[3] and "100 times" in lines[4]
    weights[f"{sixth}.lora_up.weight"][0, 0] = float("nan")
    save_file(weights, path)
    assert run_in_process(check, path) == 2
    refusal(capsys.readouterr().err, "FILE-009", "1 of 132 modules")


def test_files_that_only_some_programs_load_are_told_apart(files, tmp_path: Path, capsys) -> None:
    def answers(path: Path) -> dict[str, bool]:
        assert run_in_process(check, path) == 0
        rows = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith(("  yes  ", "  no   "))]
        return {row[5:].split(":")[0].strip(): row.startswith("yes") for row in rows}

    weights = load_file(files["a"])
    save_file(
        {name.replace("lora_te_text_model", "lora_te1_text_model"): value for name, value in weights.items()}, tmp_path / "xl.safetensors"
    )
    assert answers(tmp_path / "xl.safetensors") == {"this suite (networks.lora)": False}
    torch.manual_seed(0)
    opened(tmp_path / "loha.safetensors", **{part: random(*size) for part, size in CASES["loha"][0].items()})
    loha = answers(tmp_path / "loha.safetensors")
    assert loha["LyCORIS (lycoris.kohya)"] and not loha["this suite, networks.lora"] and not loha["Diffusers (load_lora_weights)"]
    path = "unet.mid_block.attentions.0.proj_in"
    save_file({f"{path}.lora_A.weight": random(2, 3), f"{path}.lora_B.weight": random(3, 2)}, tmp_path / "peft.safetensors")
    peft = answers(tmp_path / "peft.safetensors")
    assert peft["Diffusers (load_lora_weights)"] and not peft["AUTOMATIC1111 web UI"] and peft["this suite, networks.lora"]


@pytest.mark.parametrize("tool", [resize_lora, svd_merge_lora, merge_lora, extract_lora_from_dylora, extract_lora_from_models])
@pytest.mark.parametrize("name", ["x", "x.bin"])
def test_a_name_that_no_lora_can_have_is_refused_before_the_work(
    tool: ModuleType, name: str, tiny_v1: Path, tmp_path: Path, capsys
) -> None:
    given = {
        resize_lora: ("--model", tiny_v1, "--new_rank", 1),
        extract_lora_from_dylora: ("--model", tiny_v1, "--unit", 1),
        extract_lora_from_models: ("--model_org", tiny_v1, "--model_tuned", tiny_v1),
    }.get(tool, ("--models", tiny_v1))
    assert run_in_process(tool.main, *given, "--save_to", tmp_path / "new" / name) == 2
    said = capsys.readouterr().err
    refusal(said, "FILE-007", "--save_to", tmp_path / "new" / name)
    assert "resizing" not in said and not list(tmp_path.iterdir())


def test_a_module_that_two_programs_names_give_twice_is_refused(tmp_path: Path) -> None:
    """As the second would silently replace the first."""
    key, path = "lora_unet_mid_block_attentions_0_proj_in", "unet.mid_block.attentions.0.proj_in"
    names = (f"{key}.lora_down.weight", f"{key}.lora_up.weight", f"{path}.lora_A.weight", f"{path}.lora_B.weight")
    save_file({name: torch.ones(4, 4) for name in names}, tmp_path / "twice.safetensors")
    with refused("LORA-002", "twice.safetensors", names[0], names[2], "remove"):
        open_network(tmp_path / "twice.safetensors", "--models")
