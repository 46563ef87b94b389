"""What is wrong, or hardly meant so, with the options of the model, its precision and what is trained of it."""

from __future__ import annotations

from collections.abc import Iterator

from library.errors import Problem, coded
from library.options.bounds import MOST_RANK
from library.options.declare import options_of
from library.options.groups.scripts import FullModelScript, TrainNetwork
from library.options.rules.option_view import Given
from library.options.rules.path_rules import is_module
from library.options.suggest import closest
from library.packages import more_than_a_product, network_package

# whose ranks are ranks; in LyCORIS a huge one means a full matrix
_OWN_KINDS = ("networks.lora", "networks.dora", "networks.dylora", "networks.lora_fa")
_SUBTRACTED = ("pissa", "olora")  # starts that are taken from the weight
_BESIDE_WORDS = ("init_word", "num_vectors_per_token", "word_weights", "embedding_lr", "stop_embedding_training", "save_words")
_LEAST_WORD_RATE = 5e-4  # vectors want 1e-3 to 1e-2
# ways of attention; of several the first is used, as in sd-scripts
ATTENTION = ("diffusers_xformers", "mem_eff_attn", "xformers", "sdpa")


def precision(given: Given) -> Iterator[Problem]:
    """Precisions that go together, and with what is trained."""
    if given.full_fp16 and given.full_bf16:
        yield coded("OPT-008", f"{given.at('full_bf16')}: cannot be used together with --full_fp16; choose one")
        return
    for field, needed in (("full_fp16", "fp16"), ("full_bf16", "bf16")):
        if getattr(given, field) and given.mixed_precision != needed:
            yield coded("OPT-009", f"{given.at(field)}: needs --mixed_precision {needed} (it is {given.mixed_precision})")
    if given.full_fp16 and given.max_grad_norm_te is not None:
        yield coded(
            "OPT-008",
            f"{given.at('max_grad_norm_te')}: cannot be used together with --full_fp16, which clips all gradients together; remove one",
        )
    if given.fp8_base and isinstance(given.options, FullModelScript):
        yield coded(
            "OPT-008",
            f"{given.at('fp8_base')}: keeps frozen weights in 8 bits, but this script trains the weights themselves; "
            "use --full_bf16, or train a LoRA with train_network.py",
        )
    elif given.fp8_base and given.network_module and not network_package(given.network_module).knows_float8:
        yield coded(
            "OPT-008",
            f"{given.at('fp8_base')}: {given.network_module} reads the model's weights directly and does not support float8; "
            "use --network_module networks.lora, or remove --fp8_base",
        )


def network(given: Given) -> Iterator[Problem]:
    """A network that can be imported, trains something, and knows its rank."""
    if given.network_module and not is_module(given.network_module):
        name = given.network_module
        near = closest(name.removesuffix(".py").strip("./\\").replace("/", ".").replace("\\", "."), ["networks.lora", "lycoris.kohya"])
        package = network_package(name).install
        package = "its package" if package in ("", name.partition(".")[0]) else package
        remedy = f"did you mean {near}?" if near and near != name else f"install {package} first, or use networks.lora"
        yield coded("LORA-010", f"{given.at('network_module')}: module {name} not found; {remedy}")
    if given.network_train_unet_only and given.network_train_text_encoder_only:
        yield coded(
            "OPT-012",
            f"{given.at('network_train_unet_only')}: cannot be used with --network_train_text_encoder_only; nothing would be trained",
        )
    if given.network_module in _OWN_KINDS and (given.network_dim or 0) > MOST_RANK and not given.dim_from_weights:
        yield coded("LORA-008", f"{given.at('network_dim')}: {given.network_module} takes a rank from 1 to {MOST_RANK}")
    if given.dim_from_weights and given.network_weights is None:
        yield coded("OPT-009", f"{given.at('dim_from_weights')}: takes the rank from --network_weights, which is missing")
    yield from _starts(given)


def _starts(given: Given) -> Iterator[Problem]:
    """What goes together with a network that is more than a product of two matrices that begins at nothing."""
    module, entries = given.network_module or "", [entry.partition("=") for entry in given.network_args or ()]
    init = (
        next((value.strip().lower() for key, _, value in entries if key.strip() == "init"), "") if network_package(module).is_ours else ""
    )
    if init and given.dim_from_weights:
        yield coded(
            "OPT-008",
            f"{given.at('dim_from_weights')}: starts from the file, but --network_args init={init} from the model; remove one of them",
        )
    more = f"from a start in the model (init={init})" if init in _SUBTRACTED else more_than_a_product(module)
    if given.scale_weight_norms and more:
        yield coded(
            "OPT-008",
            f"{given.at('scale_weight_norms')}: limits products of two matrices, but this network trains {more}; remove one of them",
        )


def new_words(given: Given) -> Iterator[Problem]:
    """New words, each with its own or all with one, beside what can be kept while they are trained."""
    if given.token_string is None:
        return
    count = len(given.token_string)
    if any(not text.strip() for text in given.token_string):
        yield coded("MODEL-014", f"{given.at('token_string')}: one of the words is empty; name each, such as my-cup")
    if not count:
        for field in filter(given.differs, _BESIDE_WORDS if isinstance(given.options, TrainNetwork) else ()):
            yield coded("OPT-009", f"{given.at(field)}: only applies to new words, and none is named; add --token_string")
        return
    for field, one_for_all in (("init_word", True), ("num_vectors_per_token", True), ("weights", False), ("word_weights", False)):
        values = len(getattr(given, field) or ())
        if values not in (0, count) and not (one_for_all and values == 1):
            remedy = "give one for each, or one for all" if one_for_all else "give one for each"
            yield coded("OPT-005", f"{given.at(field)}: {values} values for {count} --token_string; {remedy}")
    if given.embedding_lr == 0:
        yield coded("OPT-012", f"{given.at('embedding_lr')}: at 0 no word is trained; set a rate such as 5e-3, or remove --token_string")
    module = given.network_module or ""
    if (given.save_words or "side") != "side" and module and not network_package(module).writes_tensors:
        yield coded("OPT-008", f"{given.at('save_words')}: what {module} writes is not known to take words; set --save_words side")
    if given.cache_text_encoder_outputs == "on":
        what = "the encoded captions change while --token_string trains its words"
        yield coded("OPT-008", f"{given.at('cache_text_encoder_outputs')}: on: {what}, so nothing can be cached; remove it")


def word_remarks(given: Given) -> Iterator[str]:
    """What has no effect on new words, or hardly the one that is meant."""
    files = "weights" if given.weights else "word_weights"
    if getattr(given, files) and given.init_word:
        yield f"{given.at('init_word')}: not used, since training starts from --{files}; remove one of them"
    if not isinstance(given.options, TrainNetwork) or not given.token_string:
        return
    if given.embedding_lr is None and given.learning_rate < _LEAST_WORD_RATE:
        rate = f"--learning_rate {given.learning_rate:g}"
        yield f"--token_string: the new words train at {rate}, which is too low for them; set --embedding_lr 5e-3"
    if given.max_train_epochs is None and (given.stop_embedding_training or 0) >= given.max_train_steps:
        yield f"{given.at('stop_embedding_training')}: has no effect: training ends at update {given.max_train_steps}"


def full_model(given: Given) -> Iterator[Problem]:
    """What only scripts that train the model itself have."""
    if given.no_token_padding and (given.max_token_length or 75) > 75:
        yield coded(
            "OPT-008",
            f"{given.at('no_token_padding')}: cannot be used with --max_token_length {given.max_token_length}; remove one of them",
        )


def model_remarks(given: Given) -> Iterator[str]:
    """What has no effect on what is trained, and how."""
    kinds = [field for field in ATTENTION if getattr(given, field)]
    if len(kinds) > 1 and kinds != ["diffusers_xformers", "xformers"]:
        yield f"{given.at(kinds[0])}: is used, so {' and '.join('--' + field for field in kinds[1:])} is ignored; keep only one of them"
    yield from _idle(given)
    if given.max_train_epochs is None and (given.stop_text_encoder_training or 0) >= given.max_train_steps:
        yield f"{given.at('stop_text_encoder_training')}: has no effect: training ends at update {given.max_train_steps}"
    if given.use_object_template and given.use_style_template:
        yield f"{given.at('use_style_template')}: has no effect with --use_object_template; remove one of them"
    weights, factors = given.base_weights or (), given.base_weights_multiplier or ()
    if len(factors) > len(weights):
        yield (
            f"{given.at('base_weights_multiplier')}: {len(factors)} multipliers for {len(weights)} --base_weights, so only the first are "
            "used; give one for each file"
        )
    elif factors and len(factors) < len(weights):
        yield f"{given.at('base_weights_multiplier')}: fewer multipliers than --base_weights; the remaining files use strength 1"


def _idle(given: Given) -> Iterator[str]:
    """Options that are accepted for sd-scripts' sake and do nothing: all that do so for one reason in one line."""
    reasons: dict[str, list[str]] = {}
    for option in options_of(type(given.options)):
        if option.group == "idle" and given.differs(option.field):
            reasons.setdefault(option.help, []).append(option.field)
    for reason, fields in reasons.items():
        first, *rest = fields
        also = f" (so with {', '.join('--' + field for field in rest)})" if rest else ""
        yield f"{given.at(first)}: {reason[0].lower()}{reason[1:].removesuffix('.')}{also}; remove it"
