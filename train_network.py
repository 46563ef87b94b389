"""Train a LoRA, or another network, for Stable Diffusion v1 or v2: `accelerate launch train_network.py --dataset_config cfg.toml …`"""

import sys
from collections.abc import Sequence

from library.console import run_script
from library.method import Method
from library.methods.expected_weights import of_network
from library.options.groups.scripts import TrainNetwork
from library.options.reading.parse import parse
from library.training.planning.new_word_check import check_words


def make_method(options: TrainNetwork) -> Method:
    """The network method that the options describe."""
    if options.new_words is not None:
        from library.methods.pivotal import NetworkWithWords

        return NetworkWithWords.of(options)
    from library.methods.network import NetworkMethod
    from library.methods.network_settings import network_settings

    return NetworkMethod(network_settings(options))


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, without the script's name."""
    options = parse(TrainNetwork, argv)
    from library.training.run import run  # imports numpy and the image code, which --help and a typo do not need

    run(options, make_method, of_network, look_at=check_words)


if __name__ == "__main__":
    sys.exit(run_script(main))
