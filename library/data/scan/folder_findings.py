"""Finds the caption file of each image, and reports what is ignored in folders or captions, for run and report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from library.data.config.blueprint import SubsetOptions
from library.data.scan.findings import WARNING, Finding
from library.errors import Problem, coded
from library.files import IMAGE_EXTENSIONS, compared
from library.image_endings import listed, remedy, unread_pictures
from library.parsing.signs import not_latin
from library.parsing.toml_text import escaped_string, toml_string
from library.paths.shell_words import shell_word
from library.words import counted, cut, named, ranked

# Files that tools leave next to images and that are not captions.
_NO_CAPTIONS = IMAGE_EXTENSIONS | {".npz", ".json", ".jsonl", ".safetensors", ".db", ".ini", ".toml", ".zip", ".bak", ".tmp"}
_COMMAS = ("，", "、")  # of Chinese and Japanese text; neither Python nor tokenizers treat them as commas


def unread(place: str, folder: Path, names: Iterable[str]) -> Iterator[Finding]:
    """A finding on image files in `folder` that cannot be read, counted by extension."""
    names = list(names)
    endings = unread_pictures(names)
    if endings:
        files = tuple(str(folder / name) for name in sorted(names) if unread_pictures([name]))
        text = f"{place}: '{folder}' contains files that are not read: {listed(endings)} ({named([Path(file).name for file in files], 3)})"
        yield Finding(WARNING, text, f"{remedy(endings)}, or remove them", files)


def further_lines(place: str, lines: Mapping[Path, int]) -> Iterator[Finding]:
    """A finding on caption files with several lines; `lines` counts the ignored lines by file."""
    if lines:
        files = tuple(map(str, lines))
        more = counted(sum(lines.values()), "more line")
        names = named([path.name for path in lines])
        text = f"{place}: only the first line of {counted(len(lines), 'caption file')} is read: {names} ({more} ignored)"
        yield Finding(WARNING, text, "write the whole caption into one line", files)


def other_commas(place: str, captions: Sequence[tuple[Path, str]]) -> Iterator[Finding]:
    """A finding on captions with a comma of another script where tags may be separated."""
    files = tuple(str(path) for path, caption in captions if any(sign in caption for sign in _COMMAS))
    if files:
        signs = " or ".join(sign for sign in _COMMAS if any(sign in caption for _, caption in captions))
        text = (
            f"{place}: {counted(len(files), 'caption has', 'captions have')} {signs}, which does not separate tags: "
            f"{named([Path(file).name for file in files])}"
        )
        yield Finding(WARNING, text, "write a plain comma between tags; in sentences it may remain", files)


def other_scripts(place: str, captions: Sequence[tuple[Path, str]]) -> Iterator[Finding]:
    """Captions and class tokens in letters that the tokenizer splits into pieces."""
    others = [(path, caption) for path, caption in captions if not_latin(caption)]
    if others:
        path, caption = others[0]
        text = (
            f"{place}: {counted(len(others), 'caption is', 'captions are')} not in Latin letters: {path.name} (“{cut(caption, 40)}”); "
            "the text encoder splits other scripts into pieces of letters that it hardly knows"
        )
        yield Finding(WARNING, text, "write captions and class_tokens in English", tuple(f"{path}: {caption}" for path, caption in others))


def captions_beside(images: Iterable[str], extension: str, names: Collection[str]) -> Iterator[str | None]:
    """For each image name, the name of its caption file in `names`, or None: `<stem><extension>`.

    Letter case and Unicode composition are ignored if the file system ignores them. With a face box in the image name
    (`<name>_<x>_<y>_<w>_<h>`), `<name><extension>` matches too. An empty extension means that there are no caption files.
    """
    if not extension:
        yield from (None for _ in images)
        return
    known = {compared(name): name for name in names} | {name: name for name in names}
    for image in images:
        whole = image.rpartition(".")[0]
        if whole + extension in known:
            yield known[whole + extension]
            continue
        stems = [whole]
        head, *numbers = whole.rsplit("_", 4)
        if len(numbers) == 4 and all(number.isdecimal() for number in numbers):
            stems.append(head)
        wanted = (name for stem in stems for name in (stem + extension, compared(stem + extension)))
        yield next((known[name] for name in wanted if name in known), None)


def without_caption(
    subset: SubsetOptions, images: list[Path], without: list[Path], names: Collection[str]
) -> tuple[Problem | None, Finding | None]:
    """Images without a caption file: an error without class_tokens, a finding if there are captions with another extension."""
    others = _other_extensions(without, names)
    key = "--caption_extension " if subset.place.startswith("--") else "caption_extension = "
    listed = ", ".join(f"{count} {ending}" for ending, count in ranked(others)[:3])
    files = "file is" if others.total() == 1 else "files are"
    use = _use(others, key, subset.caption_extension if len(without) < len(images) else None)
    beside = f"{listed} {files} next to them: {use}" if others else ""
    if not beside and "metadata.jsonl" in names and subset.image_dir:
        beside = f"captions are in metadata.jsonl: set metadata_file = {toml_string(str(subset.image_dir / 'metadata.jsonl'))}"
    if subset.class_tokens is None:
        remedy = beside or f"write <image name>{subset.caption_extension or '.txt'} files, or set class_tokens = '…'"
        verb = "has" if len(without) == 1 else "have"
        wanted = (
            f"a {subset.caption_extension} file" if subset.caption_extension else f"a caption (an empty {key.split()[0]} reads no files)"
        )
        line = (
            f"{subset.place}: {len(without)} of {counted(len(images), 'image')} in '{subset.image_dir}' {verb} neither"
            f" {wanted} nor class_tokens ({named([image.name for image in without])}); {remedy}"
        )
        return coded("DATA-005", line), None
    if beside and subset.caption_extension:
        though, _, remedy = beside.partition(": ")
        line = (
            f"{subset.place}: {len(without)} of {counted(len(images), 'image')} in '{subset.image_dir}' will be trained with class_tokens"
            f" '{subset.class_tokens}', though {though}"
        )
        return None, Finding(WARNING, line, f"{remedy} to use them", tuple(map(str, without)))
    return None, None


def _use(others: Counter[str], key: str, in_use: str | None) -> str:
    """How to have captions with the extensions `others` read, without losing those with `in_use`; '' if there are none."""
    if not others:
        return ""
    first = ranked(others)[0][0]
    written = shell_word if key.startswith("--") else escaped_string
    spellings = sorted(ending for ending in others if ending.lower() == first.lower())
    if in_use is not None:
        return f"rename them to end in {in_use} like the other images' captions (caption_extension is one ending)"
    if len(spellings) > 1:
        return f"rename them to one spelling of {' and '.join(spellings)}, then set {key}{written(first.lower())}"
    return f"set {key}{written(first)}"


def _other_extensions(images: Iterable[Path], names: Iterable[str]) -> Counter[str]:
    """Number of files per other extension that share the stem of one of the images."""
    stems = {image.stem for image in images}
    endings: Counter[str] = Counter()
    for name in names:
        stem, dot, ending = name.rpartition(".")
        if dot and ending and stem in stems and f".{ending.lower()}" not in _NO_CAPTIONS:
            endings[f".{ending}"] += 1
    return endings
