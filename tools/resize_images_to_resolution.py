"""Write smaller copies of the images of a folder: `python tools/resize_images_to_resolution.py large small --max_resolution 512x512`"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.console import log, run_script
from library.options.reading.parse import parse
from library.options.rules.tool_check import check_paths
from library.options.tool_groups.preparation import ResizeImages
from library.paths.look import is_folder


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, without the script's name."""
    options = parse(ResizeImages, argv)
    choices = options.images
    check_paths(options)
    from library.preparation.shrink import Shrink, read_resolutions, shrink_images
    from library.preparation.text_files import images_of

    resolutions = read_resolutions(choices.max_resolution)
    images = images_of(choices.src_img_folder, recursive=False, option="src_img_folder")
    if is_folder(choices.dst_img_folder) and choices.dst_img_folder.samefile(choices.src_img_folder):
        log.warning("dst_img_folder: is src_img_folder, which would mix the images with their copies; choose another folder")
    settings = Shrink(
        target=choices.dst_img_folder,
        resolutions=resolutions,
        divisible_by=choices.divisible_by,
        interpolation=choices.interpolation,
        png=choices.save_as_png,
        copy_beside=choices.copy_associated_files,
    )
    shrink_images(images, settings)


if __name__ == "__main__":
    sys.exit(run_script(main))
