"""Errors and unusual combinations in the options of the model, its precision and what is trained."""

from __future__ import annotations

from collections.abc import Iterator

from library.errors import Problem, coded
from library.options.bounds import MOST_RANK
from library.options.declare import options_of
from library.options.groups.scripts import FullModelScript, TrainNetwork
from library.options.rules.option_view import OptionView
from library.options.rules.path_rules import is_module
from library.options.suggest import closest
from library.packages import more_than_a_product, network_package
from library.words import counted

# their ranks are real ranks; in LyCORIS a huge one means a full matrix
_OWN_KINDS = ("networks.lora", "networks.dora", "networks.dylora", "networks.lora_fa")
_SUBTRACTED = ("pissa", "olora")  # starts that are subtracted from the weight
_BESIDE_WORDS = ("init_word", "num_vectors_per_token", "word_weights", "embedding_lr", "stop_embedding_training", "save_words")
_LEAST_WORD_RATE = 5e-4  # vectors need 1e-3 to 1e-2
# kinds of attention; of several the first is used, as in sd-scripts
ATTENTION = ("diffusers_xformers", "mem_eff_attn", "xformers", "sdpa")


def precision(options: OptionView) -> Iterator[Problem]:
    """Precisions must fit each other, and what is trained."""
    if options.full_fp16 and options.full_bf16:
        yield coded("OPT-008", f"{options.at('full_bf16')}: cannot be used together with --full_fp16; choose one")
        return
    for field, needed in (("full_fp16", "fp16"), ("full_bf16", "bf16")):
        if getattr(options, field) and options.mixed_precision != needed:
            yield coded("OPT-009", f"{options.at(field)}: needs --mixed_precision {needed} (it is {options.mixed_precision})")
    if options.full_fp16 and options.max_grad_norm_te is not None:
        yield coded(
            "OPT-008",
            f"{options.at('max_grad_norm_te')}: cannot be used together with --full_fp16, which clips all gradients together; remove one",
        )
    if options.fp8_base and isinstance(options.script, FullModelScript):
        yield coded(
            "OPT-008",
            f"{options.at('fp8_base')}: keeps frozen weights in 8 bits, but this script trains the weights themselves; "
            "use --full_bf16, or train a LoRA with train_network.py",
        )
    elif options.fp8_base and options.network_module and not network_package(options.network_module).knows_float8:
        yield coded(
            "OPT-008",
            f"{options.at('fp8_base')}: {options.network_module} reads the model's weights directly and does not support float8; "
            "use --network_module networks.lora, or remove --fp8_base",
        )


def network(options: OptionView) -> Iterator[Problem]:
    """The network must be importable, train something, and have a rank."""
    if options.network_module and not is_module(options.network_module):
        name = options.network_module
        near = closest(name.removesuffix(".py").strip("./\\").replace("/", ".").replace("\\", "."), ["networks.lora", "lycoris.kohya"])
        package = network_package(name).install
        package = "its package" if package in ("", name.partition(".")[0]) else package
        remedy = f"did you mean {near}?" if near and near != name else f"install {package} first, or use networks.lora"
        yield coded("LORA-010", f"{options.at('network_module')}: module {name} not found; {remedy}")
    if options.network_train_unet_only and options.network_train_text_encoder_only:
        yield coded(
            "OPT-012",
            f"{options.at('network_train_unet_only')}: cannot be used with --network_train_text_encoder_only; nothing would be trained",
        )
    if options.network_module in _OWN_KINDS and (options.network_dim or 0) > MOST_RANK and not options.dim_from_weights:
        yield coded("LORA-008", f"{options.at('network_dim')}: {options.network_module} takes a rank from 1 to {MOST_RANK}")
    if options.dim_from_weights and options.network_weights is None:
        yield coded("OPT-009", f"{options.at('dim_from_weights')}: takes the rank from --network_weights, which is missing")
    yield from _starts(options)


def _starts(options: OptionView) -> Iterator[Problem]:
    """Options that do not work with networks other than plain LoRA, or that start from the weight."""
    module, entries = options.network_module or "", [entry.partition("=") for entry in options.network_args or ()]
    init = (
        next((value.strip().lower() for key, _, value in entries if key.strip() == "init"), "") if network_package(module).is_ours else ""
    )
    if init and options.dim_from_weights:
        yield coded(
            "OPT-008",
            f"{options.at('dim_from_weights')}: starts from the file, but --network_args init={init} from the model; remove one of them",
        )
    more = f"from a start in the model (init={init})" if init in _SUBTRACTED else more_than_a_product(module)
    if options.scale_weight_norms and more:
        yield coded(
            "OPT-008",
            f"{options.at('scale_weight_norms')}: limits products of two matrices, but this network trains {more}; remove one of them",
        )


def new_words(options: OptionView) -> Iterator[Problem]:
    """New words: one value each or one for all, and what can be cached while they are trained."""
    if options.token_string is None:
        return
    count = len(options.token_string)
    if any(not text.strip() for text in options.token_string):
        yield coded("MODEL-014", f"{options.at('token_string')}: one of the words is empty; name each, such as my-cup")
    if not count:
        for field in filter(options.differs, _BESIDE_WORDS if isinstance(options.script, TrainNetwork) else ()):
            yield coded("OPT-009", f"{options.at(field)}: only applies to new words, and none is named; add --token_string")
        return
    for field, one_for_all in (("init_word", True), ("num_vectors_per_token", True), ("weights", False), ("word_weights", False)):
        values = len(getattr(options, field) or ())
        if values not in (0, count) and not (one_for_all and values == 1):
            remedy = "give one for each, or one for all" if one_for_all else "give one for each"
            yield coded("OPT-005", f"{options.at(field)}: {counted(values, 'value')} for {count} --token_string; {remedy}")
    if options.embedding_lr == 0:
        yield coded("OPT-012", f"{options.at('embedding_lr')}: at 0 no word is trained; set a rate such as 5e-3, or remove --token_string")
    module = options.network_module or ""
    if (options.save_words or "side") != "side" and module and not network_package(module).writes_tensors:
        yield coded("OPT-008", f"{options.at('save_words')}: what {module} writes is not known to take words; set --save_words side")
    if options.cache_text_encoder_outputs == "on":
        what = "the encoded captions change while --token_string trains its words"
        yield coded("OPT-008", f"{options.at('cache_text_encoder_outputs')}: on: {what}, so nothing can be cached; remove it")


def word_remarks(options: OptionView) -> Iterator[str]:
    """Options without effect on new words, or with an unusual one."""
    files = "weights" if options.weights else "word_weights"
    if getattr(options, files) and options.init_word:
        yield f"{options.at('init_word')}: not used, since training starts from --{files}; remove one of them"
    if not isinstance(options.script, TrainNetwork) or not options.token_string:
        return
    if options.embedding_lr is None and options.learning_rate < _LEAST_WORD_RATE:
        rate = f"--learning_rate {options.learning_rate:g}"
        yield f"--token_string: the new words train at {rate}, which is too low for them; set --embedding_lr 5e-3"
    if options.max_train_epochs is None and (options.stop_embedding_training or 0) >= options.max_train_steps:
        yield f"{options.at('stop_embedding_training')}: has no effect: training ends at update {options.max_train_steps}"


def full_model(options: OptionView) -> Iterator[Problem]:
    """Rules for scripts that train the model itself."""
    if options.no_token_padding and (options.max_token_length or 75) > 75:
        yield coded(
            "OPT-008",
            f"{options.at('no_token_padding')}: cannot be used with --max_token_length {options.max_token_length}; remove one of them",
        )


def model_remarks(options: OptionView) -> Iterator[str]:
    """Options without effect on what is trained."""
    kinds = [field for field in ATTENTION if getattr(options, field)]
    if len(kinds) > 1 and kinds != ["diffusers_xformers", "xformers"]:
        yield f"{options.at(kinds[0])}: is used, so {' and '.join('--' + field for field in kinds[1:])} is ignored; keep only one of them"
    yield from _idle(options)
    if options.max_train_epochs is None and (options.stop_text_encoder_training or 0) >= options.max_train_steps:
        yield f"{options.at('stop_text_encoder_training')}: has no effect: training ends at update {options.max_train_steps}"
    if options.use_object_template and options.use_style_template:
        yield f"{options.at('use_style_template')}: has no effect with --use_object_template; remove one of them"
    weights, factors = options.base_weights or (), options.base_weights_multiplier or ()
    if len(factors) > len(weights):
        yield (
            f"{options.at('base_weights_multiplier')}: {len(factors)} multipliers for {len(weights)} --base_weights, so only the first are "
            "used; give one for each file"
        )
    elif factors and len(factors) < len(weights):
        yield f"{options.at('base_weights_multiplier')}: fewer multipliers than --base_weights; the remaining files use strength 1"


def _idle(options: OptionView) -> Iterator[str]:
    """Options that are accepted for compatibility with sd-scripts and do nothing: one line per reason."""
    reasons: dict[str, list[str]] = {}
    for option in options_of(type(options.script)):
        if option.group == "idle" and options.differs(option.field):
            reasons.setdefault(option.help, []).append(option.field)
    for reason, fields in reasons.items():
        first, *rest = fields
        also = f" (so with {', '.join('--' + field for field in rest)})" if rest else ""
        yield f"{options.at(first)}: {reason[0].lower()}{reason[1:].removesuffix('.')}{also}; remove it"
