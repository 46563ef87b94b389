"""Write a --config_file from a run's manifest (<name>.run.json) or a trained network's metadata, to repeat or adapt that run.

python tools/config_from_run.py output/cat.run.json cat.toml
python tools/config_from_run.py cat.safetensors cat.toml
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.console import log, run_script
from library.containers.weights_file import SafetensorsFile, open_weights
from library.errors import UserError, coded
from library.model.family import family_of_base_version
from library.options.declare import Option, Script, build, options_of
from library.options.groups.scripts import SCRIPTS, TrainNetwork
from library.options.reading.config_file import text_of
from library.options.reading.parse import parse
from library.options.reading.values import Value, from_text, from_toml, from_words
from library.options.rules.tool_check import check_paths
from library.options.tool_groups.formats import ConfigFromRun
from library.parsing.json_text import parse_json
from library.parsing.signs import is_text
from library.paths.faults import new_file_fault
from library.paths.opening import read_text
from library.paths.shell_words import shell_word
from library.words import quoted

_NOT_OF_A_RUN = ("config_file", "output_config", "resume", "resume_from_huggingface")  # these belong to the old run
_NONE = ("", "None", "null")


@dataclass
class RecordedOptions:
    """Options by field, and messages about what a config file cannot contain."""

    script: type[Script]
    values: dict[str, Value] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def main(argv: Sequence[str]) -> None:
    """Read the first file and write the config file named second, which must not exist yet."""
    options = parse(ConfigFromRun, argv)
    check_paths(options)
    target = _toml_name(options.files.target)
    if fault := new_file_fault(target):
        raise UserError(fault.reworded(f"target: {fault}"))
    recorded = read(options.files.source)
    remarks = "".join(f"# {_printable(line)}\n" for line in recorded.remarks)
    try:
        with target.open("x", encoding="utf-8", newline="\n") as file:
            file.write(remarks + text_of(build(recorded.script, recorded.values, {})))
    except FileExistsError:
        raise UserError(coded("PATH-011", f"{target}: already exists and is not overwritten; choose another name")) from None
    except OSError as error:
        raise UserError(coded("DISK-004", f"{target}: cannot be written ({error.strerror or error})")) from None
    for line in recorded.remarks:
        log.info(line)
    log.info(f"options written to {target}; use them with: python {recorded.script.name} --config_file {shell_word(target)}")


def _printable(line: str) -> str:
    """Return the line without characters that would end a TOML comment or are invalid in a file: key names come from outside."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in line)


def _toml_name(path: Path) -> Path:
    return path if path.suffix == ".toml" or not path.name else path.with_name(path.name + ".toml")


def read(source: Path) -> RecordedOptions:
    """The options that a manifest or a network's metadata records; raises UserError for a file without options."""
    if source.suffix.lower() == ".json":
        return from_manifest(_json(source), source)
    return from_metadata(_safetensors_metadata(source), source)


def from_manifest(manifest: Mapping[str, Any], source: Path) -> RecordedOptions:
    """All options of the run as it used them, including its seed if that was chosen at random."""
    script = next((spec for spec in SCRIPTS if spec.name == manifest.get("script")), None)
    options = manifest.get("options")
    if script is None or not isinstance(options, Mapping):
        raise UserError(coded("TOOL-010", f"{source}: is not a manifest of a run; those are named <output_name>.run.json"))
    recorded = RecordedOptions(script)
    known = {option.field: option for option in options_of(script)}
    for name, entry in options.items():
        value = entry.get("value") if isinstance(entry, Mapping) else None
        if name in _NOT_OF_A_RUN:
            if value:
                recorded.remarks += [f"the run had --{name} {value}, which is left out here"] if name.startswith("resume") else []
        elif name not in known:
            recorded.remarks.append(f"{name} = {quoted(value)}: this version does not have this option")
        elif value is not None and value != []:
            _take(recorded, known[name], value)
    drawn = manifest.get("seed")
    if type(drawn) is int and "seed" not in recorded.values:
        recorded.values |= {"seed": drawn}
        recorded.remarks.append(f"the run chose its seed at random; seed = {drawn} repeats it")
    return recorded


def _take(recorded: RecordedOptions, option: Option, value: object) -> None:
    try:
        reading = from_toml(option, value)
        if reading.is_set:
            _check_texts(reading.value)
            recorded.values[option.field] = reading.value
    except ValueError as error:
        recorded.remarks.append(f"{option.field} = {quoted(value)} is invalid ({error})")


def _check_texts(value: Value) -> None:
    """Raise ValueError for texts that a file cannot contain."""
    if not all(is_text(part) for part in (value if isinstance(value, tuple) else (value,)) if isinstance(part, str)):
        raise ValueError("it has half of a character")


def from_metadata(metadata: Mapping[str, str], source: Path) -> RecordedOptions:
    """What a network file records about its training by this suite or sd-scripts, except the location of the images."""
    if "ss_network_module" not in metadata:
        raise UserError(coded("TOOL-010", f"{source}: has no information about its training (no ss_network_module in its metadata)"))
    recorded = RecordedOptions(TrainNetwork)
    known = {option.field: option for option in options_of(TrainNetwork)}
    entries = {**_first_dataset(metadata), **metadata}
    for key, text in entries.items():
        name = _NAMES.get(key, key.removeprefix("ss_"))
        option = known.get(name)
        if option is None or not key.startswith("ss_") or text in _NONE:
            continue
        try:
            value = _READERS.get(key, _plain)(option, text)
            _check_texts(value)
            recorded.values[name] = value
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            recorded.remarks.append(f"{key} = {quoted(text)} is invalid ({error})")
    recorded.values |= _model(metadata)
    recorded.remarks += _remarks(metadata)
    return recorded


def _plain(option: Option, text: str) -> Value:
    if option.type is bool:
        return {"true": True, "false": False}[text.strip().lower()]
    if option.is_list:
        return from_words(option, [str(part) for part in parse_json(text)]).value
    return from_text(option, text).value


def _network_args(option: Option, text: str) -> tuple[str, ...]:
    return tuple(f"{key}={value}" for key, value in parse_json(text).items() if key not in ("dropout", "neuron_dropout"))


def _resolution(option: Option, text: str) -> str:
    sides = re.findall(r"\d+", text)
    if not 1 <= len(sides) <= 2:
        raise ValueError("expected one or two numbers")
    return ",".join(sides)


def _optimizer_type(option: Option, text: str) -> str:
    """`torch.optim.adamw.AdamW(weight_decay=0.1)` -> AdamW, `bitsandbytes.optim.adamw.AdamW8bit` -> AdamW8bit."""
    return text.partition("(")[0].rpartition(".")[2]


_NAMES = {
    "ss_batch_size_per_device": "train_batch_size",
    "ss_optimizer": "optimizer_type",
    "ss_debiased_estimation": "debiased_estimation_loss",
}
_READERS: dict[str, Callable[[Option, str], Value]] = {
    "ss_network_args": _network_args,
    "ss_resolution": _resolution,
    "ss_optimizer": _optimizer_type,
}


def _first_dataset(metadata: Mapping[str, str]) -> dict[str, str]:
    """The flat keys of the first dataset, for files from runs with several datasets, which lack them."""
    try:
        datasets = parse_json(metadata.get("ss_datasets", "[]"))
    except ValueError:
        return {}
    if not isinstance(datasets, list) or not datasets or not isinstance(datasets[0], dict):
        return {}
    buckets = ("enable_bucket", "min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale")
    taken = ("resolution", "batch_size_per_device", *buckets)
    return {f"ss_{key}": str(datasets[0][key]) for key in taken if datasets[0].get(key) is not None}


def _model(metadata: Mapping[str, str]) -> dict[str, Value]:
    """Options that depend on several metadata keys."""
    values: dict[str, Value] = {}
    version = metadata.get("ss_base_model_version", "")
    family = family_of_base_version(version)
    if family is not None and family.flag:
        values |= {family.flag.removeprefix("--"): True, "v_parameterization": version == family.base_version("v_prediction")}
    args = re.fullmatch(r"[^()]*\((.*)\)", metadata.get("ss_optimizer", ""))
    if args and args[1]:  # commas also separate values, such as betas=(0.9,0.99): a new argument starts with key=
        values |= {"optimizer_args": tuple(part.strip() for part in re.split(r",\s*(?=[A-Za-z_]\w*=)", args[1]))}
    return values


def _remarks(metadata: Mapping[str, str]) -> list[str]:
    name, full = metadata.get("ss_sd_model_name"), metadata.get("ss_new_sd_model_hash")
    lines = [f"trained on {name or 'a model'}" + (f" (sha256 {full})" if full else "") + ": add pretrained_model_name_or_path"]
    lines.append("the location of the images is not recorded: add dataset_config or train_data_dir, and output_dir")
    if metadata.get("ss_vae_name", "None") not in _NONE:
        lines.append(f"with the VAE {metadata['ss_vae_name']}: add vae")
    return lines


def _json(source: Path) -> dict[str, Any]:
    try:
        content = parse_json(read_text(source))
    except (OSError, ValueError) as error:
        raise UserError(coded("CFG-002", f"{source}: cannot be read as JSON ({error})")) from None
    return content if isinstance(content, dict) else {}


def _safetensors_metadata(source: Path) -> dict[str, str]:
    file = open_weights(source, "source")
    if not isinstance(file, SafetensorsFile):
        remedy = "use a manifest (.run.json)"
        raise UserError(coded("TOOL-009", f"source {source}: is not a .safetensors file, and only those have metadata; {remedy}"))
    return dict(file.metadata)


if __name__ == "__main__":
    sys.exit(run_script(main))
