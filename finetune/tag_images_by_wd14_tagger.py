"""Write the tags of each image of a folder with a WD14 tagger: `python finetune/tag_images_by_wd14_tagger.py --batch_size 4 images`"""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.console import run_script
from library.options.reading.parse import parse
from library.options.rules.tool_check import check_paths
from library.options.tool_groups.preparation import TagImages


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, without the script's name."""
    options = parse(TagImages, argv)
    check_paths(options)
    from library.preparation.tag_choice import TagSettings
    from library.preparation.tagging import TagRun, tag_images
    from library.preparation.text_files import check_extension, images_of, remark_on_targets
    from library.preparation.wd14 import Tagger, locate

    check_extension("--caption_extension", options.files.caption_extension)
    run = TagRun(
        extension=options.files.caption_extension,
        separator=options.files.caption_separator,
        append=options.files.append_tags,
        batch_size=options.images.batch_size,
        workers=options.images.max_data_loader_n_workers,
        settings=TagSettings.from_options(options.tags, options.files.caption_separator),
        show=print if options.files.debug else None,
        output=options.files.output_path,
    )
    images = images_of(options.images.train_data_dir, options.images.recursive)
    if run.output is None:
        remark_on_targets(images, run.extension, run.append)
    count: Counter[str] = Counter()
    try:
        tag_images(images, run, Tagger(locate(options.model.model_dir, options.model.repo_id, options.model.force_download)), count)
    finally:
        if options.tags.frequency_tags:
            print("images  tag", *(f"{number:6}  {tag}" for tag, number in count.most_common()), sep="\n")


if __name__ == "__main__":
    sys.exit(run_script(main))
