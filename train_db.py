"""Train a whole Stable Diffusion v1 or v2 model on a subject or style: `accelerate launch train_db.py --dataset_config cfg.toml …`"""

import sys
from collections.abc import Sequence

from library.console import run_script
from library.data.config.blueprint import DREAMBOOTH
from library.method import Method
from library.methods.expected_weights import of_full_model
from library.options.groups.scripts import TrainDb
from library.options.reading.parse import parse


def make_method(options: TrainDb) -> Method:
    """The full fine-tuning that the options describe."""
    from library.methods.full_model import FullModelMethod, dreambooth_settings

    return FullModelMethod(dreambooth_settings(options))


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, without the script's name."""
    options = parse(TrainDb, argv)
    from library.training.run import run  # imports numpy and the image code, which --help and a typo do not need

    run(options, make_method, of_full_model, frozenset({DREAMBOOTH}))


if __name__ == "__main__":
    sys.exit(run_script(main))
