"""A count of one thing is written in the singular: '1 image is', never '1 images are'."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from library.words import counted, verb
from tests.contracts.test_layers import ROOT, source_files

_THINGS = (
    "batch batches byte caption channel core entry entries epoch error file folder image key latent layer line list magnitude mask minute "
    "model module multiplier number prompt row sample second showing tag tensor text time token update upload validation value vector word"
).split()
_NAMES = "|".join(thing if thing.endswith("s") else thing + "s" for thing in _THINGS)
_PLURAL = re.compile(rf" (?:(?:input|latent|more|new|other) )?(?:{_NAMES})\b")
_PLURAL_IN_LOG = re.compile(rf"%d (?:[a-z]+ )*?(?:{_NAMES})\b")

# Expressions that are no counts, or never 1 where the text is written: by file, with the reason.
_NEVER_ONE = {
    ("library/containers/archives.py", "info.file_size"),  # over 16 MiB
    ("library/containers/archives.py", "unpacked"),  # over 64 MiB
    ("library/containers/arrays_file.py", "count * dtype.itemsize"),  # over 128 MiB
    ("library/containers/safetensors_header.py", "size"),  # 8 or more, the length of the header's own length
    ("library/containers/safetensors_header.py", "length"),  # over 100 MB
    ("library/data/scan/image_headers.py", "length"),  # of a file that has a header
    ("library/doctor/child_process.py", "time_limit"),  # at least 20
    ("library/generation/checks.py", "len(values)"),  # the branch says 1 <
    ("library/data/inspection/bucket_facts.py", "MUCH_ENLARGED"),
    ("library/data/scan/folder_findings.py", "subset.caption_extension or '.txt'"),  # '.txt files'
    ("library/generation/comparing/losses.py", "SURE"),
    ("library/lora/files.py", "module.up.shape[0]"),  # after an arrow: from → to
    ("library/lora/settings.py", "BLOCKS"),
    ("library/model/file_tools/metadata_page.py", "file.path.stat().st_size"),  # of a file with a header
    ("library/model/files/facts.py", "INPAINTING_CHANNELS"),
    ("library/model/files/facts.py", "facts.in_channels"),  # 4 or 9
    ("library/model/new_words.py", "layers"),  # our own mistake
    ("library/options/reading/unknown_option.py", "count"),  # the line above is for 1
    ("library/options/rules/model_rules.py", "len(factors)"),  # more than there are files
    ("library/options/rules/output_rules.py", "length"),  # over 200
    ("library/paths/faults.py", "longest"),  # over 200
    ("library/paths/look.py", "_length(long)"),  # over 255
    ("library/paths/look.py", "_length(str(path))"),  # over 4096
    ("library/preparation/captioning/blip.py", "longest"),  # the model's 512
    ("library/preparation/captioning/blip.py", "words"),  # the model's vocabulary
    ("library/preparation/captioning/git.py", "longest"),
    ("library/preparation/captioning/git.py", "words"),
    ("library/preparation/text_files.py", "extension"),  # '.txt files exist'
    ("library/renaming.py", "_length(path.name)"),  # over 255
    ("library/surgery/health.py", "HUGE"),
    ("library/surgery/health_page.py", "len(values)"),  # in the branch for more
    ("library/surgery/health_page.py", "len(modules)"),  # more than the page shows
    ("library/training/ledger/ledger_page.py", "said"),  # a factor
    ("library/training/memory/advice.py", "-(-first.batch // batch)"),  # at least 2
    ("library/training/planning/custom_dataset.py", "' and '.join(map(str, lengths))"),  # several
    ("library/training/planning/inputs.py", "updates"),  # the branch for more
    ("library/training/planning/new_word_check.py", "len(trained)"),  # more than those that lack the word
    ("library/training/planning/plan.py", "plan.accumulation"),
    ("library/training/planning/plan.py", "plan.updates_per_epoch"),
    ("library/training/report/custom_preview.py", "MOST_PICTURES"),
    ("library/training/report/dry_run.py", "plan.updates_per_epoch"),  # more than the run has
    ("library/training/step/guard.py", "len(self._names)"),  # more than are left out
    ("library/training/step/guard.py", "self._skipped_in_a_row"),  # MOST_IN_A_ROW
}


def _written() -> Iterator[tuple[str, str, int, str]]:
    """(file, expression, line, what follows) of everything in an f-string that a plural follows, without what `counted` writes."""
    for path in source_files():
        name = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and (match := _PLURAL_IN_LOG.search(node.value)):
                yield name, match[0], node.lineno, ""
            if not isinstance(node, ast.JoinedStr):
                continue
            for value, text in zip(node.values, node.values[1:], strict=False):
                if not isinstance(value, ast.FormattedValue) or not isinstance(text, ast.Constant):
                    continue
                if (match := _PLURAL.match(str(text.value))) and not _agrees(value.value):
                    yield name, ast.unparse(value.value), value.lineno, match[0]


def _agrees(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("counted", "verb", "named")


def test_no_number_stands_before_a_plural_that_it_may_not_fit() -> None:
    faults = [f"{file}:{line}: {{{value}}}{text}" for file, value, line, text in _written() if (file, value) not in _NEVER_ONE]
    assert not faults, "write counted(number, noun), or say in _NEVER_ONE why it is never 1:\n" + "\n".join(faults)


def test_the_exceptions_still_exist() -> None:
    written = {(file, value) for file, value, _, _ in _written()}
    assert not _NEVER_ONE - written


def test_one_thing_is_singular_and_any_other_number_is_plural() -> None:
    assert [counted(number, "update") for number in (0, 1, 2)] == ["0 updates", "1 update", "2 updates"]
    assert counted(1, "entry", "entries") == "1 entry" and counted(2, "entry", "entries") == "2 entries"
    assert [verb(number, "is", "are") for number in (0, 1, 2)] == ["are", "is", "are"]
