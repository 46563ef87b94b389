"""Judge the packages around PyTorch: bitsandbytes, xformers, and whether the others load."""

from __future__ import annotations

from collections.abc import Iterator

from library.doctor.child_process import Answer
from library.doctor.findings import Finding, fault, note, ok

# What the suite imports of the required packages, in this order; those that import torch fail with it.
WITHOUT_TORCH = ("numpy", "PIL.Image", "cv2", "scipy", "safetensors", "toml", "voluptuous", "tqdm", "psutil")
WITH_TORCH = ("transformers", "accelerate", "diffusers")
PACKAGE_OF = {"PIL.Image": "pillow", "cv2": "opencv-python"}

_AGAIN = "install it again: pip install --force-reinstall --no-deps"
_REMEDIES = (
    (("libGL", "libglib", "libgthread"), "pip uninstall opencv-python, then pip install opencv-python-headless"),
    (("WinError 126", "DLL load failed"), "install the Microsoft Visual C++ Redistributable (x64)"),
    (
        ("numpy.core", "numpy.dtype size changed", "compiled using NumPy 1"),
        "install matching versions: pip install -r requirements.txt -c constraints.txt",
    ),
    (
        ("cannot import name", "is required for a normal functioning"),
        "install matching versions: pip install -r requirements.txt -c constraints.txt",
    ),
)


def judge_bitsandbytes(answer: Answer) -> Finding:
    """Whether the 8-bit optimizers really step."""
    outcome = answer.first("result")
    if answer.failure is None and outcome == "right":
        return ok(f"bitsandbytes works: a step of AdamW8bit on {answer.first('device')} is correct")
    reason = answer.failure or outcome
    return fault(f"bitsandbytes does not work: {reason}", f"{_remedy(reason or '', 'bitsandbytes')}; or train with --optimizer_type AdamW")


def judge_xformers(answer: Answer) -> Finding:
    """Whether memory-efficient attention really runs; it is optional, and for GPUs only."""
    outcome = answer.first("result")
    if answer.failure is None and outcome == "right":
        return ok("xformers works: memory-efficient attention is correct")
    if answer.failure is None and answer.first("device") == "cpu":
        return note("xformers is installed but needs a card, and PyTorch sees none", "remove --xformers")
    reason = answer.failure or outcome
    return fault(f"xformers does not work: {reason}", "pip uninstall xformers: the default, --sdpa, needs nothing")


def judge_packages(answer: Answer, torch_loads: bool, installed: frozenset[str]) -> Iterator[Finding]:
    """Yield one line for all packages that load, and one for each that does not; missing packages are reported elsewhere."""
    loaded = [name.partition(".")[0] for name in answer.all("loaded")]
    if loaded:
        yield ok(f"these packages load: {', '.join(loaded)}")
    for broken in answer.all("broken"):
        module, reason = broken.split(" ", 1)
        package = PACKAGE_OF.get(module, module)
        if package in installed and (torch_loads or module not in WITH_TORCH):
            yield fault(f"{package} does not load: {reason}", _remedy(reason, package))
    if answer.failure is not None:
        module = (answer.all("stage") or ("",))[-1].removeprefix("importing ")
        package = PACKAGE_OF.get(module, module)
        if torch_loads or module not in WITH_TORCH:
            yield fault(f"packages do not load: {answer.failure}", _remedy(answer.failure, package or "the package"))


def _remedy(reason: str, package: str) -> str:
    for signs, remedy in _REMEDIES:
        if any(sign in reason for sign in signs):
            return remedy
    return f"{_AGAIN} {package}"
