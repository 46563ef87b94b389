"""What the files of one run tell of themselves: metadata of each save, and the manifest beside the product."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from library.files import NOT_UNICODE
from library.method import Method
from library.options.groups.scripts import TrainingScript
from library.training.optim.optimizer import MadeOptimizer
from library.training.planning.inputs import Inputs
from library.training.saving import ss_metadata as facts
from library.training.saving.manifest import ImageHash, Manifest, manifest_path, run_facts_of
from library.training.saving.model_spec import model_spec
from library.training.states.resume import run_facts

if TYPE_CHECKING:
    from library.model.bundle import StableDiffusion


class FileFacts:
    """Hashes are made in the background from the start on: only a save needs them."""

    def __init__(self, options: TrainingScript, inputs: Inputs, method: Method, seed: int, started: float, images_too: bool) -> None:
        self._options, self._inputs, self._method, self._seed, self._started = options, inputs, method, seed, started
        self._hashes = [
            facts.ModelHash("sd_model", options.model.start),
            facts.ModelHash("vae", options.model.vae),
        ]
        # the main process writes the manifest
        self._images = ImageHash(files) if images_too and (files := inputs.source.files()) else None

    def of_save(self, model: StableDiffusion, made: MadeOptimizer, session: str, epochs: int, step: int) -> dict[str, str]:
        """The metadata of a file that is saved after so many epochs and updates."""
        spec, saving = self._spec(model), self._options.saving
        moment = facts.moment_metadata(epochs, step)
        if saving.no_metadata:
            told = facts.minimal(self._training(model, made, session))
            told |= ({} if self._method.name == "network" else moment) | facts.minimal_spec(spec, saving)
        else:
            told = self._training(model, made, session) | moment | spec
        return {key: text.encode("utf-8", NOT_UNICODE).decode("utf-8") for key, text in told.items()}

    def manifest(self) -> Manifest:
        """The manifest with what is known when training begins; hashes follow with `known_late`."""
        inputs = self._inputs
        before = run_facts(self._options, inputs.data, inputs.processes, inputs.plan.updates)
        data = inputs.source.facts()
        if inputs.source.captions_are_whole:
            data |= {"showings_hash": before["images"], "captions_hash": before["captions"]}
        plan = {"updates": inputs.plan.updates, "epochs": inputs.plan.epochs, "batches_per_epoch": inputs.plan.batches_per_epoch}
        made = run_facts_of(self._options, self._seed, self._started, plan | {"processes": inputs.processes}, data)
        return Manifest(manifest_path(self._options), made)

    def known_late(self) -> dict[str, Any]:
        """The hashes; waits for them."""
        hashes: dict[str, str] = {}
        for model_hash in self._hashes:
            hashes |= model_hash.values()
        return {
            "model": {key.removeprefix("ss_"): value for key, value in hashes.items()},
            "images_sha256": self._images.value() if self._images is not None else None,
        }

    def _training(self, model: StableDiffusion, made: MadeOptimizer, session: str) -> dict[str, str]:
        plan, processes = self._inputs.plan, self._inputs.processes
        hashes: dict[str, str] = {}
        for model_hash in self._hashes:
            hashes |= model_hash.values()
        return facts.run_metadata(
            self._options,
            started=self._started,
            session=int(session, 16),
            seed=self._seed,
            base_version=model.family.base_version(model.prediction),
            optimizer=_class_name(made.optimizer, self._options.optimizer.optimizer_args),
            plan={
                "ss_num_batches_per_epoch": plan.batches_per_epoch,
                "ss_num_epochs": plan.epochs,
                "ss_max_train_steps": plan.updates,
            },
            data=self._inputs.source.metadata(processes),
            method=self._method.describe(),
            hashes=hashes,
        )

    def _spec(self, model: StableDiffusion) -> dict[str, str]:
        word = self._options.new_word
        return model_spec(
            self._options.saving,
            clip_skip=self._options.model.clip_skip,
            timesteps=range(self._options.diffusion.min_timestep, self._options.diffusion.max_timestep),
            method=self._method.name,
            family=model.family,
            prediction=model.prediction,
            resolutions=[spec.options.resolution for spec in self._inputs.data.blueprint.datasets],
            trigger=None if word is None else word.token_string,
        )


def _class_name(optimizer: Any, args: Mapping[str, Any] | tuple[str, ...] | None) -> str:
    kind = type(optimizer)
    shown = f"({','.join(args)})" if args else ""
    return f"{kind.__module__}.{kind.__name__}{shown}"
