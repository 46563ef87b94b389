"""What a dry run finds in captions that are trained as they are: too long for the model, or with weights that shuffling would split."""

from __future__ import annotations

from collections.abc import Iterator

from library.caption_rewriting import RewriteCaption
from library.data.batching.buckets import FilledData
from library.data.batching.captions import brackets_hold_commas
from library.data.scan.findings import WARNING, Finding
from library.model.files.facts import ModelFacts
from library.options.groups.scripts import TrainingScript
from library.training.planning.caption_lengths import long_captions, remedy_of_length
from library.training.planning.image_source import ImageSource
from library.words import counted


def caption_findings(
    options: TrainingScript, filled: FilledData, facts: ModelFacts | None, rewrite: RewriteCaption | None
) -> Iterator[Finding]:
    """Captions that lose words, and brackets around several tags that move."""
    if rewrite is not None:
        return  # templates take the place of captions
    if options.data.weighted_captions:
        yield from _torn_brackets(filled)
    long = long_captions(options, ImageSource(filled).captions(), facts.family if facts else None)
    if long:
        shown = "; ".join(f"“{caption[:40]}…” loses “{lost[:60]}{'…' if len(lost) > 60 else ''}”" for caption, lost in long[:3])
        more = f" and {len(long) - 3} more" if len(long) > 3 else ""
        which = counted(len(long), "caption is", "captions are")
        room = options.model.max_token_length or 75
        files = tuple(f"{caption} ▸ loses: {lost}" for caption, lost in long)
        yield Finding(WARNING, f"--max_token_length {room}: {which} longer: {shown}{more}", remedy_of_length(room), files)


def _torn_brackets(filled: FilledData) -> Iterator[Finding]:
    moved = {record.path: record.caption for record in filled.records if record.subset.moves_tags}
    torn = {path: caption for path, caption in moved.items() if brackets_hold_commas(caption)}
    if torn:
        which = f"{counted(len(torn), 'caption has', 'captions have')} a comma inside brackets, which shuffling would split"
        files = tuple(f"{path}: {caption}" for path, caption in torn.items())
        remedy = "put each tag in separate brackets: (red:1.2), (blue:1.2)"
        yield Finding(WARNING, f"{which}: “{next(iter(torn.values()))[:60]}…”", remedy, files)
