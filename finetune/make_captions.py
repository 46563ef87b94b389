"""Write a caption for each image of a folder with BLIP: `python finetune/make_captions.py --batch_size 8 images`"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.console import log, run_script
from library.errors import UserError, coded
from library.options.reading.parse import parse
from library.options.rules.tool_check import check_paths
from library.options.tool_groups.preparation import MakeCaptions


def check(options: MakeCaptions) -> None:
    """Raise UserError for contradicting options, and warn about options without effect."""
    model = options.model
    if model.min_length > model.max_length:
        raise UserError(coded("OPT-008", f"--min_length: {model.min_length} is more than --max_length {model.max_length}; lower it"))
    if model.num_beams > 1 and not model.beam_search:
        log.warning("--num_beams: has no effect without --beam_search")
    if options.given("top_p") and model.beam_search:
        log.warning("--top_p: has no effect with --beam_search")


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, without the script's name."""
    options = parse(MakeCaptions, argv)
    check_paths(options)
    check(options)
    from library.preparation.captioning.blip_weights import weights_named
    from library.preparation.text_files import check_extension, images_of, remark_on_targets, text_file_of, write_text_file

    weights = weights_named(options.model.caption_weights)
    extension = options.files.caption_extension
    check_extension("--caption_extension", extension)
    images = images_of(options.images.train_data_dir, options.images.recursive)
    remark_on_targets(images, extension)

    from library.preparation.captioning.blip import Captioner, Writing
    from library.preparation.describe import describe_images

    model = options.model
    writing = Writing(model.beam_search, model.num_beams, model.top_p, model.max_length, model.min_length, model.seed)
    captioner = Captioner(weights, writing, options.images.train_data_dir)

    def write(image: Path, caption: str) -> None:
        if options.files.debug:
            print(f"{image}: {caption}")
        write_text_file(text_file_of(image, extension), caption)

    workers = options.images.max_data_loader_n_workers
    describe_images(images, captioner, write, batch_size=options.images.batch_size, workers=workers, label="captioned")


if __name__ == "__main__":
    sys.exit(run_script(main))
