"""Make `library`, `networks` and `finetune` importable from anywhere; the scripts run from the root of the clone without it.

    pip install -c constraints.txt .

All package metadata is in pyproject.toml.
"""

from setuptools import setup

setup()
