"""Pages in other languages: which English page each is of, and whether that page has changed since.

python docs/translations.py                            list the translations whose English page has changed
python docs/translations.py --mark docs/ja/resume.md   the translation is up to date again
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
LANGUAGES = ("ja", "ko")
TRANSLATED = (  # the pages that a beginner reads
    "README.md",
    "docs/train_network.md",
    "docs/train_db.md",
    "docs/fine_tune.md",
    "docs/train_textual_inversion.md",
    "docs/dataset_config.md",
    "docs/captions_and_tags.md",
    "docs/from_sd_scripts.md",
    "docs/troubleshooting.md",
    "docs/resume.md",
)
_FIRST_LINE = re.compile(r"<!-- English: (?P<page>\S+)(?: (?P<digest>[0-9a-f]{12}))? -->")


def translations() -> Iterator[tuple[Path, Path]]:
    """(translation, English page) of every page in every language."""
    for language in LANGUAGES:
        for page in TRANSLATED:
            yield ROOT / "docs" / language / Path(page).name, ROOT / page


def digest(page: Path) -> str:
    """What changes when the text of a page does."""
    return hashlib.sha256(page.read_text(encoding="utf-8").encode()).hexdigest()[:12]


def outdated() -> list[tuple[Path, Path]]:
    """The translations whose English page is another than the one that was translated."""
    return [(translation, page) for translation, page in translations() if _marked(translation) != (name(page), digest(page))]


def mark(translation: Path) -> None:
    """Record that a translation says what its English page says now. Raises ValueError for a page that is no translation."""
    page = next((page for one, page in translations() if one == translation.resolve()), None)
    text = translation.read_text(encoding="utf-8")
    if page is None or not _FIRST_LINE.match(text):
        raise ValueError(f"{translation}: its first line is not <!-- English: PAGE -->, or PAGE is not among those translated; correct it")
    line = f"<!-- English: {name(page)} {digest(page)} -->"
    translation.write_text(_FIRST_LINE.sub(line, text, count=1), encoding="utf-8", newline="\n")


def name(path: Path) -> str:
    """A page as seen from the project's folder."""
    return path.relative_to(ROOT).as_posix()


def _marked(translation: Path) -> tuple[str, str | None] | None:
    found = _FIRST_LINE.match(translation.read_text(encoding="utf-8")) if translation.is_file() else None
    return (found["page"], found["digest"]) if found else None


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mark", nargs="+", type=Path, default=[], metavar="PAGE", help="translations that are up to date")
    for translation in parser.parse_args(argv).mark:
        try:
            mark(translation)
        except (OSError, ValueError) as fault:
            print(f"error: --mark {fault}", file=sys.stderr)
            return 2
    for translation, page in outdated():
        done = f"python docs/translations.py --mark {name(translation)}"
        print(f"{name(translation)}: {name(page)} has changed; update the translation, then run {done}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
