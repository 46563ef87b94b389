"""What `--prior_from_base` means for the images of a run: refuses settings that would have no effect, and describes the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from library.data.batching.buckets import FilledData
from library.data.batching.prior_draws import has_words
from library.data.config.blueprint import SubsetOptions
from library.data.scan.caption_files import with_affixes
from library.errors import Problem, UserError, coded
from library.words import quoted

_KEYS = ("prior_prompt", "prior_identifier", "prior_share")


def with_prior(data: FilledData, weight: float | None) -> FilledData:
    """`data` with the weight of `--prior_from_base`; `weight` is None where the option is not set.

    Raises UserError for a subset without the captions that the option needs, and where it would apply to no image.
    """
    if weight is None:
        idle = tuple(f"{line} can do nothing without --prior_from_base; add --prior_from_base 1, or take it out" for line in _idle(data))
        return replace(data, findings=(*data.findings, *idle)) if idle else data
    faults = [fault for subset in data.images_of for fault in _faults(data, subset)]
    if not faults and not any(map(_has_prior, data.images_of)):
        faults.append(coded("OPT-009", "--prior_from_base: no draw has it, since prior_share is 0 throughout; raise --prior_share"))
    if faults:
        raise UserError(*faults)
    return replace(data, prior_from_base=weight)


def subset_words(subset: SubsetOptions) -> str:
    """The end of a subset's line in the plan: which of its showings `--prior_from_base` applies to."""
    if not _has_prior(subset):
        return ""
    if subset.is_reg:
        return ", target: the base model's prediction"
    prompts = " or ".join(f"“{prompt}”" for prompt in subset.prior_prompt) or "nothing"
    if subset.prior_identifier:
        prompts = (
            f"{prompts} in place of “{subset.prior_identifier}”"
            if subset.prior_prompt
            else f"their caption without “{subset.prior_identifier}”"
        )
    return f", {subset.prior_share:.0%} of the draws with {prompts} and the base model's prediction as target"


def _has_prior(subset: SubsetOptions) -> bool:
    return subset.is_reg or subset.prior_share > 0 or bool(subset.prior_identifier and any(subset.prior_prompt))


def _idle(data: FilledData) -> Iterator[str]:
    """Keys set in a dataset config; `rules.loss_rules` reports options of the command line."""
    usual = SubsetOptions()
    for subset in data.images_of:
        changed = [key for key in _KEYS if getattr(subset, key) != getattr(usual, key)]
        if changed and not subset.place.startswith("--"):
            yield f"{subset.place}: {' and '.join(changed)}"


def _faults(data: FilledData, subset: SubsetOptions) -> Iterator[Problem]:
    if subset.is_reg or not _has_prior(subset):
        return
    if not subset.prior_prompt and not subset.prior_identifier:
        yield coded(
            "OPT-009",
            f"{subset.place}: --prior_from_base needs a caption for the class; add --prior_prompt dog, or the word that names the "
            "subject in captions, such as --prior_identifier shs",
        )
    elif subset.prior_identifier:
        texts = (with_affixes(record.caption, subset) for record in data.records if record.subset is subset)
        if not any(has_words(text, subset.prior_identifier) for text in texts):
            yield coded(
                "CFG-010",
                f"{subset.place}: prior_identifier {quoted(subset.prior_identifier)} is in none of its captions, so the subject would be "
                "trained as its class; use the word in the captions, or --prior_prompt alone",
            )
