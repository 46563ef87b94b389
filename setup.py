"""Makes `library`, `networks` and `finetune` importable from anywhere; the scripts run from the root of the clone without it.

pip install -c constraints.txt .
"""

from pathlib import Path

from setuptools import find_packages, setup


def _requirements(name: str) -> list[str]:
    lines = Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines()
    return [line for line in (line.partition("#")[0].strip() for line in lines) if line]


setup(
    name="sd-trainer",
    version="0.1.0",
    description="LoRA, DreamBooth, fine-tuning and Textual Inversion for Stable Diffusion v1 and v2",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["library*", "networks*", "finetune"]),
    package_data={"library.model.text": ["*.gz", "*.txt"], "library.training.report": ["*.css"], "finetune": ["*.toml"]},
    install_requires=_requirements("requirements.txt"),
    extras_require={"optional": _requirements("requirements-optional.txt"), "test": _requirements("requirements-test.txt")},
)
