"""Train a whole Stable Diffusion v1 or v2 model on a captioned collection: `accelerate launch fine_tune.py --in_json meta.json …`"""

import sys
from collections.abc import Sequence

from library.console import run_script
from library.data.config.blueprint import METADATA
from library.options.groups.scripts import FineTune
from library.options.reading.parse import parse
from library.training.run import run


def make_method(options: FineTune):
    """The training of the model's own weights that the options describe."""
    from library.methods.full_model import FullModelMethod, FullModelSettings

    return FullModelMethod(
        FullModelSettings(
            learning_rate=options.optimizer.learning_rate,
            text_encoder_updates=None if options.trained.train_text_encoder else 0,
            text_encoder_lr=options.trained.learning_rate_te,
            save_model_as=options.saving.save_model_as,
            use_safetensors=options.saving.use_safetensors,
        )
    )


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, the script's name left out."""
    run(parse(FineTune, argv), make_method, frozenset({METADATA}))


if __name__ == "__main__":
    sys.exit(run_script(main))
