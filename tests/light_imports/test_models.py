"""What a run has imported when its model is loaded, and that nothing is missing afterwards; each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from library.light_imports import models
from tests.scripts.starting import dataset

ROOT = Path(__file__).parents[2]
# Half of the time of a start each, or more, and nothing a run needs
UNWANTED = {
    "bitsandbytes",
    "diffusers.loaders.single_file_utils",
    "diffusers.pipelines.stable_diffusion",
    "diffusers.schedulers.scheduling_ddim",
    "peft",
    "scipy",
    "scipy.stats",
    "sympy",
    "torch._dynamo.eval_frame",
    "torch._inductor",
    "torch.distributed.tensor",
    "transformers.trainer_utils",
}
RUN = """
import json, sys, time
import library.model.load as loading
from library.console import run_script
load, facts = loading.load, {}
def seen(*args, **settings):
    model = load(*args, **settings)
    facts.update(cpu=time.process_time(), modules=sorted(sys.modules))
    return model
loading.load = seen
import train_network
facts["code"] = run_script(train_network.main, sys.argv[1:])
facts["at the end"] = sorted(sys.modules)
print(json.dumps(facts))
"""
LIGHT = "import sys\nfrom library.light_imports.models import import_models\nimport_models()\nimport torch\n"
LIGHT += "assert 'torch._dynamo.eval_frame' not in sys.modules and 'peft' not in sys.modules\n"


def alone(code: str, *argv: object) -> str:
    """What Python prints for this code, which has to end well."""
    command = [sys.executable, "-c", code, *map(str, argv)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_imports_nothing_it_does_not_need_before_its_model_is_loaded_nor_later(tmp_path: Path, tiny_v1: Path, photos: Path) -> None:
    config = dataset(tmp_path / "data.toml", photos)
    argv = ["--pretrained_model_name_or_path", tiny_v1, "--dataset_config", config, "--network_module", "networks.lora"]
    argv += ["--output_dir", tmp_path / "out", "--max_train_steps", "2"]
    facts = json.loads(alone(RUN, *argv).splitlines()[-1])
    assert facts["code"] == 0 and "transformers.models.clip.modeling_clip" in facts["modules"]
    assert UNWANTED.isdisjoint(facts["modules"]), UNWANTED & set(facts["modules"])
    assert UNWANTED.isdisjoint(facts["at the end"]), UNWANTED & set(facts["at the end"])
    assert facts["cpu"] < 10, "5 on a quiet machine (benchmarks/startup.py)"


def test_the_compiler_is_the_real_one_when_it_is_wanted() -> None:
    code = """
from torch import nn
layer = nn.Linear(3, 3)
optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)

@torch.compiler.disable
def kept_out(x):
    assert not torch.compiler.is_compiling()
    return x + 1

@torch.compiler.disable()
def kept_out_too(x):
    assert not torch.compiler.is_compiling()
    return x + 1

def update(run):
    run(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()

update(layer)
from accelerate import Accelerator
from accelerate.utils import is_compiled_module
assert not is_compiled_module(layer) and Accelerator(cpu=True).unwrap_model(layer) is layer
assert int(kept_out(torch.zeros(()))) == 1 and int(kept_out_too(torch.zeros(()))) == 1
assert "torch._dynamo.eval_frame" not in sys.modules
graphs = []
compiled = torch.compile(lambda x: kept_out_too(kept_out(layer(x) * 2)) * 3, backend=lambda graph, inputs: graphs.append(graph) or graph)
x = torch.ones(2, 3)
assert torch.allclose(compiled(x), (layer(x) * 2 + 2) * 3)
update(compiled)
import torch._dynamo
assert type(torch._dynamo).__name__ == "module" and torch._dynamo is sys.modules["torch._dynamo"] and len(graphs) >= 2
assert is_compiled_module(torch.compile(layer, backend="eager"))
assert not [one for one in sys.meta_path if one.__class__.__module__.startswith("library")]
from diffusers.models.attention import BasicTransformerBlock
assert id(BasicTransformerBlock) in torch._dynamo.trace_rules._allowed_callable_ids()
"""
    alone(LIGHT + code)


@pytest.mark.parametrize(
    "code",
    [
        "import torch._dynamo.utils as utils\nassert utils.counters is not None",
        "from torch._dynamo.eval_frame import OptimizedModule\nassert OptimizedModule is torch._dynamo.eval_frame.OptimizedModule",
        "from torch._dynamo import config\nassert config.recompile_limit > 0",
        "torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),))",
    ],
)
def test_each_way_to_the_compiler_brings_all_of_it(code: str) -> None:
    late = "import sys, torch\nfrom library.light_imports.late_dynamo import put_off_dynamo\nput_off_dynamo()\n"
    late += "assert 'torch._dynamo.eval_frame' not in sys.modules\n"
    alone(late + code + "\nimport torch._dynamo\nassert torch._dynamo.eval_frame.__spec__.origin.endswith('eval_frame.py')")


def test_what_was_left_out_of_diffusers_and_transformers_works(tmp_path: Path, tiny_v1: Path) -> None:
    code = """
from pathlib import Path
from library.model.load import load
from library.model.save_forms import save_product
model = load(sys.argv[1])
folder = Path(sys.argv[2])
save_product(model, folder / "saved", "diffusers_safetensors")
again = load(folder / "saved")
assert all(torch.equal(value, again.unet.state_dict()[name]) for name, value in model.unet.state_dict().items())
assert model.text_encoder.text_model if hasattr(model.text_encoder, "text_model") else True

from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
import diffusers.models.transformers, diffusers.models.unets, diffusers.models.autoencoders, diffusers.hooks
assert diffusers.models.unets.UNet2DConditionModel is UNet2DConditionModel is type(model.unet)
assert diffusers.models.transformers.FluxTransformer2DModel
assert diffusers.models.autoencoders.AutoencoderTiny and diffusers.hooks.HookRegistry
pipe = StableDiffusionPipeline.from_pretrained(folder / "saved", safety_checker=None, local_files_only=True)
assert type(pipe.unet) is UNet2DConditionModel
from diffusers.loaders.single_file_model import load_single_file_checkpoint
assert load_single_file_checkpoint(sys.argv[1], local_files_only=True)

import transformers
assert transformers.models.clip.CLIPTextModel is type(model.text_encoder)
import transformers.models
assert transformers.models.bert.BertModel
from transformers import CLIPTextModel, GitForCausalLM, GitConfig
sizes = dict(hidden_size=8, num_attention_heads=2, num_hidden_layers=1, intermediate_size=8, vocab_size=10, max_position_embeddings=8)
assert GitForCausalLM(GitConfig(**sizes))
assert CLIPTextModel.from_pretrained(folder / "saved" / "text_encoder")
from transformers.loss import loss_for_object_detection as loss
assert loss.linear_sum_assignment([[1.0]])[0][0] == 0
from transformers.distributed.utils import is_dtensor
assert not is_dtensor(torch.zeros(1))
from transformers.distributed.sharding_utils import _tied_params_are_equal
assert _tied_params_are_equal(torch.zeros(1), torch.zeros(1))
from transformers import masking_utils
with masking_utils.TransformGetItemToIndex():
    pass
"""
    alone(LIGHT + code, tiny_v1, tmp_path)


def test_peft_finds_the_layers_it_puts_into_a_model(tiny_v1: Path) -> None:
    code = """
from library.model.load import load
unet = load(sys.argv[1]).unet
given = torch.randn(1, 4, 8, 8), 5, torch.randn(1, 77, unet.config.cross_attention_dim)
with torch.no_grad():
    plain = unet(*given).sample
    assert "peft" not in sys.modules
    from peft import LoraConfig
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False))
    full = unet(*given).sample
    half = unet(*given, cross_attention_kwargs={"scale": 0.5}).sample
    none = unet(*given, cross_attention_kwargs={"scale": 0.0}).sample
    assert not torch.equal(plain, full) and not torch.equal(half, full) and torch.equal(plain, none)
    assert torch.equal(unet(*given).sample, full)
    unet.disable_adapters()
    assert torch.equal(unet(*given).sample, plain)
"""
    alone(LIGHT + code, tiny_v1)


def test_a_next_version_that_cannot_be_imported_lightly_is_imported_as_it_is(tmp_path: Path) -> None:
    """A stand-in for it asks for a class while it is imported that is no class yet; once without the light import's doing, once plainly."""
    (tmp_path / "next_version.py").write_text(
        "import sys\nfrom peft import PeftModel\nif type(PeftModel) is not type:\n    raise TypeError('metaclass conflict')\n"
    )
    code = """
import sys, logging
sys.path.insert(0, sys.argv[1])
from library.console import log
from library.light_imports import models
said = []
class Listen(logging.Handler):
    def emit(self, record): said.append((record.levelname, record.getMessage()))
log.addHandler(Listen()); log.setLevel("DEBUG")
models.MODELS = (*models.MODELS[:1], "next_version", *models.MODELS[1:])
before = list(sys.meta_path)
models.import_models()
assert said == [("DEBUG", "models are imported with all that comes with them (TypeError: metaclass conflict)")], said
assert [one.__class__.__name__ for one in sys.meta_path if one not in before and one.__class__.__module__.startswith("library")] == []
kinds = {type(module).__name__ for module in sys.modules.values()}
assert not kinds & {"LaterModule", "LateDynamo"}, kinds
assert "diffusers.models.transformers.auraflow_transformer_2d" in sys.modules  # the packages have run
import next_version, torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel
assert torch.compile(torch.nn.Linear(1, 1), backend="eager")(torch.ones(1)).shape == (1,)
"""
    alone(code, tmp_path)


def test_a_run_that_is_compiled_puts_nothing_off(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(models, "_import_lightly", lambda: asked.append(True))
    models.import_models(compiled=True)
    assert asked == []
    models.import_models()
    assert asked == [True]
