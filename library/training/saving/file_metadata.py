"""What the files of a run record about it: metadata of each save, and the manifest next to the product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from library.files import NOT_UNICODE
from library.method import Product
from library.model.bundle import StableDiffusion
from library.options.rules.thumbnail import as_data_url
from library.training.run_context import RunContext, RunStart
from library.training.saving import ss_metadata as facts
from library.training.saving.manifest import ImageHash, Manifest, manifest_path, run_facts_of
from library.training.saving.model_spec import model_spec
from library.training.states.resume import run_facts


class FileFacts:
    """Hashes are computed in the background from the start: only a save needs them."""

    def __init__(self, start: RunStart) -> None:
        self._start = start
        model = start.options.model
        self._hashes = [
            facts.ModelHash("sd_model", model.start),
            facts.ModelHash("vae", model.vae),
        ]
        # read now: the image may be gone when the file is saved
        saving = start.options.saving
        self._saving = replace(saving, metadata_thumbnail=as_data_url(saving.metadata_thumbnail))
        # only the main process writes the manifest
        self._images = ImageHash(files) if start.accelerator.is_main_process and (files := start.inputs.source.files()) else None

    def of_save(self, run: RunContext, product: Product, epochs: int, step: int) -> dict[str, str]:
        """Return the metadata of a file that is saved after `epochs` epochs and `step` updates."""
        spec, saving = self._spec(run.model, product), self._saving
        moment = facts.moment_metadata(epochs, step)
        if saving.no_metadata:
            metadata = facts.minimal(self._training(run, product))
            metadata |= ({} if product.kind == "network" else moment) | facts.minimal_spec(spec, saving)
        else:
            metadata = self._training(run, product) | moment | spec
        return {key: text.encode("utf-8", NOT_UNICODE).decode("utf-8") for key, text in metadata.items()}

    def manifest(self) -> Manifest:
        """Return the manifest with what is known when training starts; `known_late` adds the hashes."""
        start, inputs = self._start, self._start.inputs
        before = run_facts(start.options, inputs.data, inputs.processes, inputs.plan.updates)
        data = inputs.source.facts()
        if inputs.source.captions_are_whole:
            data |= {"showings_hash": before["images"], "captions_hash": before["captions"]}
        plan = {"updates": inputs.plan.updates, "epochs": inputs.plan.epochs, "batches_per_epoch": inputs.plan.batches_per_epoch}
        content = run_facts_of(start.options, start.state.seed, start.started, plan | {"processes": inputs.processes}, data)
        return Manifest(manifest_path(start.options), content)

    def known_late(self) -> dict[str, Any]:
        """Return the hashes; waits for them."""
        hashes: dict[str, str] = {}
        for model_hash in self._hashes:
            hashes |= model_hash.values()
        return {
            "model": {key.removeprefix("ss_"): value for key, value in hashes.items()},
            "images_sha256": self._images.value() if self._images is not None else None,
        }

    def _training(self, run: RunContext, product: Product) -> dict[str, str]:
        plan, processes = run.inputs.plan, run.inputs.processes
        hashes: dict[str, str] = {}
        for model_hash in self._hashes:
            hashes |= model_hash.values()
        return facts.run_metadata(
            run.options,
            started=run.started,
            session=int(run.state.session, 16),
            seed=run.state.seed,
            base_version=run.model.family.base_version(run.model.prediction),
            optimizer=_class_name(run.optimizer.optimizer, run.options.optimizer.optimizer_args),
            plan={
                "ss_num_batches_per_epoch": plan.batches_per_epoch,
                "ss_num_epochs": plan.epochs,
                "ss_max_train_steps": plan.updates,
            },
            data=run.inputs.source.metadata(processes),
            method={**run.method.describe(), **product.facts},
            hashes=hashes,
        )

    def _spec(self, model: StableDiffusion, product: Product) -> dict[str, str]:
        options = self._start.options
        return model_spec(
            self._saving,
            clip_skip=options.model.clip_skip,
            timesteps=range(options.diffusion.min_timestep, options.diffusion.max_timestep),
            method=product.kind,
            family=model.family,
            prediction=model.prediction,
            inpaints=model.inpaints,
            resolutions=[spec.options.resolution for spec in self._start.inputs.data.blueprint.datasets],
            trigger=product.trigger,
        )


def _class_name(optimizer: object, args: Mapping[str, Any] | tuple[str, ...] | None) -> str:
    kind = type(optimizer)
    shown = f"({','.join(args)})" if args else ""
    return f"{kind.__module__}.{kind.__name__}{shown}"
