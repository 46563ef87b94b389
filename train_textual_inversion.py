"""Train a new word for Stable Diffusion v1 or v2: `accelerate launch train_textual_inversion.py --token_string shs …`"""

import sys
from collections.abc import Sequence

from library.console import run_script
from library.method import Method
from library.methods.expected_weights import of_word
from library.methods.templates import of_options
from library.options.groups.scripts import TrainTextualInversion
from library.options.reading.parse import parse
from library.training.planning.new_word_check import check_words


def make_method(options: TrainTextualInversion) -> Method:
    """The training of the new word that the options describe."""
    from library.methods.textual_inversion import TextualInversionMethod, word_settings

    return TextualInversionMethod(word_settings(options))


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, without the script's name."""
    options = parse(TrainTextualInversion, argv)
    from library.training.run import run  # imports numpy and the image code, which --help and a typo do not need

    run(options, make_method, of_word, look_at=check_words, rewrite=of_options)


if __name__ == "__main__":
    sys.exit(run_script(main))
