"""Write a caption for each image of a folder with GIT: `python finetune/make_captions_by_git.py --batch_size 8 images`"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.console import run_script
from library.options.reading.parse import parse
from library.options.rules.tool_check import check_paths
from library.options.tool_groups.preparation import MakeCaptionsByGit


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, without the script's name."""
    options = parse(MakeCaptionsByGit, argv)
    check_paths(options)
    from library.preparation.text_files import check_extension, images_of, remark_on_targets, text_file_of, write_text_file

    extension, debug = options.files.caption_extension, options.files.debug
    check_extension("--caption_extension", extension)
    images = images_of(options.images.train_data_dir, options.images.recursive)
    remark_on_targets(images, extension)

    from library.preparation.captioning.git import GitCaptioner, without_writing
    from library.preparation.describe import describe_images

    def write(image: Path, caption: str) -> None:
        text = without_writing(caption) if options.model.remove_words else caption
        if debug:
            print(f"{image}: {text}" + (f" (was: {caption})" if text != caption else ""))
        write_text_file(text_file_of(image, extension), text)

    captioner = GitCaptioner(options.model.model_id, options.model.max_length)
    workers = options.images.max_data_loader_n_workers
    describe_images(images, captioner, write, batch_size=options.images.batch_size, workers=workers, label="captioned")


if __name__ == "__main__":
    sys.exit(run_script(main))
