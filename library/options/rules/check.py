"""Find what cannot work before anything large loads: missing paths, contradictions. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from library.console import log
from library.errors import Problem, UserError, coded
from library.options.declare import Script, options_of
from library.options.rules.custom_dataset_rules import custom_dataset
from library.options.rules.data_rules import augmentation, buckets, data_remarks, data_source, resolution
from library.options.rules.launch_rules import attending, compiling, launch
from library.options.rules.loss_rules import averaging, loss_remarks, noise_and_loss, prior
from library.options.rules.model_rules import full_model, model_remarks, network, new_words, precision, word_remarks
from library.options.rules.option_view import OptionView
from library.options.rules.output_rules import hub, hub_remarks, log_remarks, logs, sampling, sampling_remarks, saving, saving_remarks
from library.options.rules.path_rules import paths
from library.options.rules.rate_rules import optimizer, rate_remarks, rates
from library.options.rules.thumbnail import thumbnail

Rule = Callable[[OptionView], Iterator[Problem]]
Remark = Callable[[OptionView], Iterator[str]]


def check(options: Script) -> None:
    """Raise UserError with all errors of the options together; log what works but is probably unintended."""
    view = OptionView(options)
    problems = [problem for rule in RULES for problem in rule(view)]
    if problems:
        raise UserError(*dict.fromkeys(problems))
    for rule in REMARKS:
        for remark in rule(view):
            log.warning("%s", remark)


def _required(options: OptionView) -> Iterator[Problem]:
    for option in options_of(type(options.script)):
        if option.field in type(options.script).required and not getattr(options, option.field):
            yield coded("OPT-007", f"--{option.field} is missing: {option.help.removesuffix(' Always needed.')}")


# in the order of the error messages
RULES: tuple[Rule, ...] = (
    _required,
    data_source, custom_dataset, resolution, buckets, augmentation, noise_and_loss, prior, averaging, rates, optimizer, precision,
    network, new_words, full_model, saving, thumbnail, sampling, logs, hub, launch, compiling, attending, paths,
)  # fmt: skip
# accepted for compatibility, but probably unintended
REMARKS: tuple[Remark, ...] = (
    data_remarks, loss_remarks, rate_remarks, sampling_remarks, model_remarks, word_remarks, saving_remarks, log_remarks, hub_remarks,
)  # fmt: skip
