"""Train a whole Stable Diffusion v1 or v2 model on a subject or style: `accelerate launch train_db.py --dataset_config cfg.toml …`"""

import sys
from collections.abc import Sequence

from library.console import run_script
from library.data.config.blueprint import DREAMBOOTH
from library.options.groups.scripts import TrainDb
from library.options.reading.parse import parse
from library.training.run import run


def make_method(options: TrainDb):
    """The training of the model's own weights that the options describe."""
    from library.methods.full_model import FullModelMethod, FullModelSettings

    stop = options.trained.stop_text_encoder_training
    return FullModelMethod(
        FullModelSettings(
            learning_rate=options.optimizer.learning_rate,
            text_encoder_updates=None if stop is None else max(stop, 0),
            text_encoder_lr=options.trained.learning_rate_te,
            save_model_as=options.saving.save_model_as,
            use_safetensors=options.saving.use_safetensors,
        )
    )


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, the script's name left out."""
    run(parse(TrainDb, argv), make_method, frozenset({DREAMBOOTH}))


if __name__ == "__main__":
    sys.exit(run_script(main))
