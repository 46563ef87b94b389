"""Train a LoRA, or another network, for Stable Diffusion v1 or v2: `accelerate launch train_network.py --dataset_config cfg.toml …`"""

import sys
from collections.abc import Sequence

from library.console import run_script
from library.method import Method
from library.methods.expected_weights import of_network
from library.options.groups.scripts import TrainNetwork
from library.options.reading.parse import parse


def make_method(options: TrainNetwork) -> Method:
    """The network method that the options describe."""
    from library.methods.network import NetworkMethod, network_settings

    return NetworkMethod(network_settings(options))


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, without the script's name."""
    options = parse(TrainNetwork, argv)
    from library.training.run import run  # with numpy and all that looks at images, which --help and a typo do not wait for

    run(options, make_method, of_network)


if __name__ == "__main__":
    sys.exit(run_script(main))
