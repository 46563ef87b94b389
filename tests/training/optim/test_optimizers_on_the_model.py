"""Every optimizer of the table trains the small model for 5 updates and goes on from a state on the disk, bit for bit."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from library.data.loading.batch import Batch
from library.diffusion.noise import NoiseSettings
from library.diffusion.objective import Objective
from library.diffusion.schedule import NoiseSchedule
from library.methods.network import NetworkMethod
from library.methods.network_settings import NetworkSettings
from library.model.load import load
from library.training.optim.lr_schedule import AdafactorRates
from library.training.optim.optimizer import make_optimizer
from library.training.optim.optimizer_table import OPTIMIZERS
from library.training.states.state import TrainState
from library.training.states.state_files import check_can_be_kept, load_training, load_weights, write_state
from library.training.states.state_parts import StateParts
from library.training.step.task import DiffusionTask, NoiseAndLoss

SETTINGS = NetworkSettings(
    module="networks.lora", dim=16, alpha=16, dropout=None, args={}, weights=None, dim_from_weights=False, train_unet=True,
    train_text_encoder=True, learning_rate=1e-3, unet_lr=None, text_encoder_lr=None, scale_weight_norms=None, base_weights=(),
    gradient_checkpointing=False,
)  # fmt: skip
PARAMETERS = 6  # of U-Net and text encoder each: enough to see, and some optimizers are slow with hundreds


@pytest.fixture(scope="module")
def model(tiny_v1: Path):
    """The small model, loaded once; each run works on a copy."""
    return load(tiny_v1)


class Run:
    """A LoRA on the small model with one of the table's optimizers and a schedule that falls."""

    def __init__(self, model, row) -> None:
        model = copy.deepcopy(model)
        torch.manual_seed(5)
        self.method = NetworkMethod(SETTINGS)
        self.method.attach(model)
        schedule = NoiseSchedule.stable_diffusion()
        self.task = DiffusionTask(model, self.method, NoiseAndLoss(schedule, Objective(schedule, "epsilon"), NoiseSettings())).train()
        rate = 1.0 if row.kind == "factor" else 1e-3
        groups = [{**group, "params": group["params"][:PARAMETERS], "lr": rate} for group in self.method.param_groups()]
        self.trained = [parameter for group in groups for parameter in group["params"]]
        for module in self.method.modules():
            module.requires_grad_(False)
        for parameter in self.trained:
            parameter.requires_grad_(True)
        self.optimizer = make_optimizer(row.name, groups, rate).optimizer
        if row.kind == "relative":  # finds its own rates, and can have no other schedule
            self.schedule: torch.optim.lr_scheduler.LRScheduler = AdafactorRates(self.optimizer)
        else:
            self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 1 - step / 20)
        self.ids = model.tokenizer("a red flag")[0][None]

    def train(self, steps: range) -> list[float]:
        """The loss of each update."""
        losses = []
        for step in steps:
            latents = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(step))
            batch = Batch(None, latents, self.ids, None, torch.ones(1), torch.tensor([step]), ("",), ("",), (0,))
            loss, _ = self.task(batch, step)
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            self.optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
        return losses

    def weights(self) -> list[torch.Tensor]:
        """What is trained."""
        return [parameter.detach() for parameter in self.trained]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("row", OPTIMIZERS, ids=lambda row: row.name)
def test_the_small_model_trains_for_5_updates_and_resumes_bit_for_bit(row, model, tmp_path: Path) -> None:
    run = Run(model, row)
    check_can_be_kept(run.optimizer, run.schedule)
    before = [weights.clone() for weights in run.weights()]
    assert all(loss == loss for loss in run.train(range(5)))
    moved = [not torch.equal(old, new) for old, new in zip(before, run.weights(), strict=True)]
    assert sum(moved) >= len(moved) / 2 and all(weights.isfinite().all() for weights in run.weights())
    write_state(tmp_path / "state", StateParts(run.method, run.optimizer, run.schedule), TrainState(1, step=5), {})
    again = Run(model, row)
    load_weights(tmp_path / "state", again.method)
    load_training(tmp_path / "state", again.optimizer, again.schedule, None, new_rates=False)
    assert run.train(range(5, 8)) == again.train(range(5, 8))
    assert all(torch.equal(one, two) for one, two in zip(run.weights(), again.weights(), strict=True))
