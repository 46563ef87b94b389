"""Options of the tools that prepare images, captions, tags and metadata files for training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from library.options.bounds import MOST_BATCH, MOST_PIXELS, MOST_SEED, MOST_WEIGHT, MOST_WORKERS
from library.options.declare import Tool, opt, word

_EXTENSION = "Extension of the {what} files next to the images."
_WORKERS = "How many threads read images ahead of the model; 0 reads one batch ahead. Default: one for each processor, at most 8."
BLIP = "Salesforce/blip-image-captioning-large"


@dataclass(frozen=True)
class FolderOptions:
    """Images"""

    train_data_dir: Path = word("The folder of the images.", path="folder")
    recursive: bool = opt(False, "Include the images in subfolders.")


@dataclass(frozen=True)
class ReadAheadOptions(FolderOptions):
    """Images"""

    batch_size: int = opt(
        1, "How many images the model sees at once; more is faster and needs more memory.", at_least=1, at_most=MOST_BATCH
    )
    max_data_loader_n_workers: int | None = opt(None, _WORKERS, at_least=0, at_most=MOST_WORKERS)


@dataclass(frozen=True)
class CaptionModelOptions:
    """Model and text"""

    caption_weights: str = opt(
        BLIP, "The BLIP captioning model: a folder in the Hugging Face format, or a name on the Hugging Face Hub.", path="model"
    )
    beam_search: bool = opt(
        False, "Search for the most likely caption (beam search) instead of choosing words at random (nucleus sampling)."
    )
    num_beams: int = opt(1, "With --beam_search: number of beams.", at_least=1, at_most=1000)
    top_p: float = opt(
        0.9,
        "Without --beam_search: choose each word among the most likely ones whose probabilities together reach this.",
        at_least=0.0,
        at_most=1.0,
    )
    max_length: int = opt(75, "The longest caption, in tokens of the model.", at_least=1, at_most=1000)
    min_length: int = opt(5, "The shortest caption, in tokens of the model.", at_least=0, at_most=1000)
    seed: int = opt(42, "Seed for random captions; the same seed gives an image the same caption.", at_least=-MOST_SEED, at_most=MOST_SEED)


@dataclass(frozen=True)
class CaptionFileOptions:
    """Caption files"""

    caption_extension: str = opt(".caption", _EXTENSION.format(what="caption"), aliases=("caption_extention",), path="part of a name")
    debug: bool = opt(False, "Print each image with its caption.")


@dataclass(frozen=True)
class MakeCaptions(Tool):
    """Write a caption for each image of a folder with BLIP, to a caption file next to it."""

    name: ClassVar[str] = "finetune/make_captions.py"

    images: ReadAheadOptions
    model: CaptionModelOptions
    files: CaptionFileOptions


GIT = "microsoft/git-large-textcaps"


@dataclass(frozen=True)
class GitOptions:
    """Model and text"""

    model_id: str = opt(
        GIT, "The GIT captioning model: a folder in the Hugging Face format, or a name on the Hugging Face Hub.", path="model"
    )
    max_length: int = opt(50, "The longest caption, in tokens of the model.", at_least=2, at_most=1000)
    remove_words: bool = opt(False, "Remove what it says about text in the image (that says ...), which is mostly wrong.")


@dataclass(frozen=True)
class GitFileOptions:
    """Caption files"""

    caption_extension: str = opt(".caption", _EXTENSION.format(what="caption"), path="part of a name")
    debug: bool = opt(False, "Print each image with its caption, and what --remove_words removed.")


@dataclass(frozen=True)
class MakeCaptionsByGit(Tool):
    """Write a caption for each image of a folder with GIT, to a caption file next to it."""

    name: ClassVar[str] = "finetune/make_captions_by_git.py"

    images: ReadAheadOptions
    model: GitOptions
    files: GitFileOptions


@dataclass(frozen=True)
class TaggerModelOptions:
    """Model"""

    repo_id: str = opt(
        "SmilingWolf/wd-v1-4-convnext-tagger-v2",
        "The tagger's name on the Hugging Face Hub, with model.onnx; owner/name/folder if model_optimized.onnx is in a subfolder.",
    )
    model_dir: Path = opt(
        Path("wd14_tagger_model"),
        "Folder of the tagger, which is in a subfolder named after its --repo_id or directly here; missing files are downloaded to it.",
        path="folder that is filled",
    )
    force_download: bool = opt(False, "Download the tagger again even if it exists.")
    onnx: bool = opt(False, "Has no effect: the tagger always runs with ONNX Runtime.")


@dataclass(frozen=True)
class TagOptions:
    """Tags"""

    thresh: float = opt(0.35, "Write tags with at least this confidence.", at_least=0.0, at_most=1.0)
    general_threshold: float | None = opt(None, "The same for general tags only. Default: --thresh.", at_least=0.0, at_most=1.0)
    character_threshold: float | None = opt(
        None, "The same for character names only. Default: --thresh. Over 1: none.", at_least=0.0, at_most=MOST_WEIGHT
    )
    meta_threshold: float | None = opt(
        None, "The same for meta tags (about the image as such). Default: --thresh.", at_least=0.0, at_most=MOST_WEIGHT
    )
    model_threshold: float | None = opt(None, "The same for names of image models. Default: --thresh.", at_least=0.0, at_most=MOST_WEIGHT)
    copyright_threshold: float | None = opt(
        None, "The same for names of series and brands. Default: --thresh.", at_least=0.0, at_most=MOST_WEIGHT
    )
    artist_threshold: float | None = opt(None, "The same for names of artists. Default: --thresh.", at_least=0.0, at_most=MOST_WEIGHT)
    remove_underscore: bool = opt(False, "Replace underscores in tags with spaces; emoticons such as ^_^ keep theirs.")
    undesired_tags: str = opt("", "Tags to never write, separated by commas, with or without underscores.")
    use_rating_tags: bool = opt(False, "Write the image's most likely rating first.")
    use_rating_tags_as_last_tag: bool = opt(False, "Write the image's most likely rating last.")
    use_quality_tags: bool = opt(False, "Write the image's most likely quality first, if the tagger knows such tags.")
    use_quality_tags_as_last_tag: bool = opt(False, "Write the image's most likely quality last, if the tagger knows such tags.")
    character_tag_expand: bool = opt(False, "Write a character's name_(series) as two tags: name, series.")
    character_tags_first: bool = opt(False, "Write character names before general tags.")
    always_first_tags: str | None = opt(None, "Tags to write first, in this order, if the image has them; separated by commas.")
    tag_replacement: str | None = opt(None, "Tags to replace: from1,to1;from2,to2 (\\, for a comma that is part of a tag).")
    frequency_tags: bool = opt(False, "Print how many images got each tag.")


@dataclass(frozen=True)
class TagFileOptions:
    """Tag files"""

    output_path: Path | None = opt(
        None,
        "Write all tags to this one file instead: .jsonl with one image per line, otherwise a JSON table with tags and image_size.",
        path="new text",
    )
    caption_extension: str = opt(".txt", _EXTENSION.format(what="tag"), aliases=("caption_extention",), path="part of a name")
    caption_separator: str = opt(", ", "Separator between tags.")
    append_tags: bool = opt(False, "Keep the tags of an existing file and add the ones it does not have.")
    debug: bool = opt(False, "Print each image with its tags by kind.")


@dataclass(frozen=True)
class TagImages(Tool):
    """Write the tags of each image of a folder with a WD14 tagger, to a text file next to it."""

    name: ClassVar[str] = "finetune/tag_images_by_wd14_tagger.py"

    images: ReadAheadOptions
    model: TaggerModelOptions
    tags: TagOptions
    files: TagFileOptions


@dataclass(frozen=True)
class MergeOptions:
    """Images and metadata"""

    train_data_dir: Path = word("The folder of the images and of the files next to them.", path="folder")
    out_json: Path = word("The metadata file to write.", path="new text")
    in_json: Path | None = opt(None, "The metadata file to start from. Default: the one to be written, if it exists.", path="file")
    full_path: bool = opt(False, "Name images by their full path, so that one file can cover several folders.")
    recursive: bool = opt(False, "Include the images in subfolders.")
    debug: bool = opt(False, "Print each image with the text written to the metadata.")


@dataclass(frozen=True)
class MergeCaptionsOptions(MergeOptions):
    """Images and metadata"""

    caption_extension: str = opt(".caption", _EXTENSION.format(what="caption"), aliases=("caption_extention",), path="part of a name")


@dataclass(frozen=True)
class MergeTagsOptions(MergeOptions):
    """Images and metadata"""

    caption_extension: str = opt(".txt", _EXTENSION.format(what="tag"), path="part of a name")


@dataclass(frozen=True)
class MergeCaptions(Tool):
    """Collect the caption files of a folder of images in a metadata file."""

    name: ClassVar[str] = "finetune/merge_captions_to_metadata.py"

    metadata: MergeCaptionsOptions


@dataclass(frozen=True)
class MergeTags(Tool):
    """Collect the tag files of a folder of images in a metadata file."""

    name: ClassVar[str] = "finetune/merge_dd_tags_to_metadata.py"

    metadata: MergeTagsOptions


@dataclass(frozen=True)
class CleanOptions:
    """Metadata"""

    in_json: Path = word("The metadata file to read.", path="file")
    out_json: Path = word("The metadata file to write; may be the one that is read.", path="new text")
    rules: Path | None = opt(None, "Your table of cleaning rules (TOML). Default: finetune/cleaning_rules.toml.", path="file")
    debug: bool = opt(False, "Print each caption and tag list that changes, before and after.")


@dataclass(frozen=True)
class CleanCaptionsAndTags(Tool):
    """Clean all captions and tags of a metadata file with a table of rules."""

    name: ClassVar[str] = "finetune/clean_captions_and_tags.py"

    metadata: CleanOptions


@dataclass(frozen=True)
class ResizeOptions:
    """Images"""

    src_img_folder: Path = word("The folder of the images to shrink.", path="folder")
    dst_img_folder: Path = word("The folder to write to; created if missing.", path="new folder")
    max_resolution: str = opt(
        "512x512,384x384,256x256,128x128",
        "One copy of each image for each of these sizes (width x height, separated by commas), shrunk to at most that many pixels.",
    )
    divisible_by: int = opt(1, "Crop each side to a multiple of this many pixels, around the centre.", at_least=1, at_most=MOST_PIXELS)
    interpolation: str = opt("area", "How pixels are interpolated.", choices=("area", "cubic", "lanczos4"))
    save_as_png: bool = opt(False, "Write PNG files. Default: JPEG of quality 100.")
    copy_associated_files: bool = opt(False, "Copy captions and other files of an image next to each of its copies, with matching names.")


@dataclass(frozen=True)
class ResizeImages(Tool):
    """Write smaller copies of the images of a folder, one for each resolution."""

    name: ClassVar[str] = "tools/resize_images_to_resolution.py"

    images: ResizeOptions


PREPARATION_TOOLS = (MakeCaptions, MakeCaptionsByGit, TagImages, MergeCaptions, MergeTags, CleanCaptionsAndTags, ResizeImages)
