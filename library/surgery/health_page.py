"""What `check_lora_weights.py` prints: a table of modules, the findings, and the programs that load the file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from library.lora.file_names import bundled_word
from library.lora.layers import STABLE_DIFFUSION
from library.surgery.health import Module, base_model, programs
from library.surgery.network_file import NetworkFile
from library.words import counted

SHOWN = 3  # largest and smallest modules without --verbose


def page(network: NetworkFile, modules: Sequence[Module], findings: Sequence[str], verbose: bool) -> str:
    """Return the whole text."""
    lines = [*_summary(network, modules), "", *_table(modules, verbose), ""]
    lines += [f"finding: {line}" for line in findings] or ["nothing suspicious was found"]
    lines += ["", "loads in (by the names and kinds of its modules):"]
    for row in programs(network):
        lines.append(f"  {'yes' if row.loads else 'no ':3}  {row.program}" + (f": {row.remark}" if row.remark else ""))
    return "\n".join(lines)


def tensor_lines(network: NetworkFile) -> Iterator[str]:
    """Yield a line for each tensor of the file in its order: name, shape, and the mean and minimum of its absolute values."""
    yield f"{counted(len(network.file.infos), 'tensor')}: name, shape, mean |w|, least |w|"
    for name, tensor in network.file.read(list(network.file.infos)):
        sizes = tensor.float().abs()
        shape = "-".join(map(str, tensor.shape)) or "single number"
        yield f"{name}  {shape}  {float(sizes.mean()):.4e}  {float(sizes.min()):.4e}"


def _summary(network: NetworkFile, modules: Sequence[Module]) -> list[str]:
    of_unet = sum(module.key.startswith(STABLE_DIFFUSION.unet) for module in modules)
    kinds = sorted({module.kind for module in modules})
    dtypes = sorted({info.dtype for info in network.file.infos.values()})
    ranks = sorted({module.rank for module in modules})
    alphas = sorted({module.alpha for module in modules if module.alpha is not None})
    lines = [
        f"{network.file.path.name}: {', '.join(kinds)} for {base_model(network)}, {', '.join(dtypes)}",
        f"modules: {of_unet} in the U-Net, {len(modules) - of_unet} in the text encoder",
        f"rank: {_span(ranks)}; alpha: {_span(alphas) if alphas else 'none'}",
    ]
    said = network.metadata.get("ss_network_module")
    words = list(dict.fromkeys(word for word in map(bundled_word, network.file.infos) if word is not None))
    lines += [f"new words in it: {', '.join(words)} (bundle_emb, for web UIs)"] if words else []
    return lines + ([f"trained with: {said}"] if said else [])


def _span(values: Sequence[float]) -> str:
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g} ({len(values)} values)"


def _table(modules: Sequence[Module], verbose: bool) -> list[str]:
    shown = list(modules)
    if not verbose:
        sound = sorted(
            (module for module in modules if math.isfinite(module.norm) and module.fault is None), key=lambda module: -module.norm
        )
        picked = {module.key for module in [*sound[:SHOWN], *sound[-SHOWN:]]} | {module.key for module in modules if module.fault}
        shown = [module for module in modules if module.key in picked]
    lines = [f"{'‖ΔW‖':>10} {'mean |w|':>10} {'rank':>5} {'used':>5} {'alpha':>8}  module"]
    for module in sorted(shown, key=lambda module: -module.norm if math.isfinite(module.norm) else -math.inf):
        used = "" if module.used is None else module.used
        alpha = "" if module.alpha is None else f"{module.alpha:g}"
        fault = f"  ({module.fault})" if module.fault else ""
        lines.append(f"{module.norm:10.3e} {module.mean:10.3e} {module.rank:5} {used:>5} {alpha:>8}  {module.key}{fault}")
    if len(shown) < len(modules):
        lines.append(f"… the largest and the smallest of {len(modules)} modules; --verbose shows all")
    return lines
