"""The Japanese and Korean pages have the headings, commands, options and tables of their English originals."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import translations  # noqa: E402

PAIRS = list(translations.translations())
LETTERS = {"ja": "[ぁ-んァ-ヶ]", "ko": "[가-힣]"}  # those that only this language has; Japanese prose is never without kana
CODE = r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)"  # as many backticks behind it as before it
both = pytest.mark.parametrize(("translation", "page"), PAIRS, ids=[translations.name(one) for one, _ in PAIRS])


def text_of(page: Path) -> list[str]:
    """The lines of a page without the links to its other languages."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("<!-- English:") and not re.match(r"\[(English|日本語)\]\(", line)]


def is_code(lines: list[str]) -> Iterator[tuple[str, bool]]:
    """(line, whether it belongs to a block of code)."""
    fenced = listed = False
    for line in lines:
        if line.lstrip().startswith("```"):
            fenced = not fenced
            continue
        if line.strip():
            listed = bool(re.match(r"\s*([*-]|\d+\.) ", line)) or (listed and line.startswith(" "))
        yield line, fenced or (line.startswith("    ") and not listed)


def sections(page: Path) -> list[str]:
    """The text of each section, its heading included and blocks of code left out; first what is above the first heading."""
    found: list[list[str]] = [[]]
    for line, code in is_code(text_of(page)):
        if not code and re.match(r"#+ ", line):
            found.append([])
        found[-1] += [] if code else [line]
    return ["\n".join(lines) for lines in found]


def spans(text: str) -> list[str]:
    """What is set as code in a text; a span may go over the end of a line, and between two backticks it may have one."""
    return [code.strip() for _, code in re.findall(CODE, re.sub(r"\s+", " ", text))]


def headings(page: Path) -> list[int]:
    """The levels of a page's headings."""
    return [len(line) - len(line.lstrip("#")) for line, code in is_code(text_of(page)) if not code and re.match(r"#+ ", line)]


def commands(page: Path) -> list[str]:
    """The lines of the blocks of code without remarks."""
    lines = [re.sub(r"(^|\s+)#.*", "", line).strip() for line, code in is_code(text_of(page)) if code]
    return [line for line in lines if line]


def options(page: Path) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[A-Za-z][\w-]*", "\n".join(text_of(page))))


def tables(page: Path) -> list[list[str]]:
    """Of each row of each table: what of the first column is code, what of the others is, in any order, and the number of cells."""
    found: list[list[str]] = []
    inside = False
    for line, code in is_code(text_of(page)):
        if code or not line.startswith("|"):
            inside = False
            continue
        if not inside:
            found.append([])
        inside = True
        cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
        found[-1].append(f"{spans(cells[0])} {sorted(set(spans(' '.join(cells[1:]))))} {len(cells)}")
    return found


@both
def test_headings_are_the_same_in_number_and_level(translation: Path, page: Path) -> None:
    assert headings(translation) == headings(page)


@both
def test_commands_are_the_same(translation: Path, page: Path) -> None:
    assert commands(translation) == commands(page)


@both
def test_the_same_options_are_named(translation: Path, page: Path) -> None:
    assert options(translation) == options(page)


@both
def test_tables_have_the_same_rows(translation: Path, page: Path) -> None:
    assert tables(translation) == tables(page)


@both
def test_each_section_has_the_same_code(translation: Path, page: Path) -> None:
    assert [sorted(set(spans(text))) for text in sections(translation)] == [sorted(set(spans(text))) for text in sections(page)]


@both
def test_each_section_has_the_same_lists(translation: Path, page: Path) -> None:
    def items(text: str) -> int:
        return len(re.findall(r"^\s*(?:[*-]|\d+\.) ", text, re.MULTILINE))

    assert [items(text) for text in sections(translation)] == [items(text) for text in sections(page)]


@both
def test_each_section_leads_to_the_same_pages(translation: Path, page: Path) -> None:
    translated = {one.resolve(): original for one, original in translations.translations()}

    def targets(text: str, of: Path) -> list[str]:
        found = [target.partition("#") for target in re.findall(r"\]\(([^)\s]+)\)", text)]
        whole = [(file, anchor, (of.parent / file).resolve() if file else of) for file, _, anchor in found]
        return sorted(file if "://" in file else f"{translated.get(there, there)}{'#' if anchor else ''}" for file, anchor, there in whole)

    assert [targets(text, translation) for text in sections(translation)] == [targets(text, page) for text in sections(page)]


@both
def test_no_figure_is_lost(translation: Path, page: Path) -> None:
    """A translation may write a numeral for a word (three: 3), but never leaves out or changes one."""

    def figures(text: str) -> Counter[str]:
        return Counter(re.findall(r"(?<![0-9A-Za-z.])[0-9]+(?:[.,][0-9]+)*", re.sub(CODE + r"|\]\([^)]*\)", " ", text, flags=re.DOTALL)))

    for there, here in zip(sections(page), sections(translation), strict=True):
        assert figures(there) - figures(here) == Counter(), there.partition("\n")[0]


@both
def test_everything_is_translated(translation: Path, page: Path) -> None:
    """No sentence is left in English, each paragraph has letters of its language, and nothing has letters of the other."""
    language = translation.parent.name
    others = "|".join(letters for name, letters in LETTERS.items() if name != language)
    for line in "\n".join(sections(translation)).splitlines():
        prose = re.sub(
            r"(?<!\*)\*(?=[^\s*])[^*]+\*(?!\*)", " / ", re.sub(CODE, "code", re.sub(r"\]\([^)]*\)", "]", line))
        )  # emphasis quotes English
        assert not re.search(r"[A-Za-z]+(?:,? [A-Za-z]+){6}", prose), line
        assert len(re.findall(r"[A-Za-z]{2,}", prose)) < 10 or re.search(LETTERS[language], line), line
        assert not re.search(others, line), line


def test_no_page_is_left_over() -> None:
    there = {path for language in translations.LANGUAGES for path in (ROOT / "docs" / language).rglob("*") if path.is_file()}
    assert there == {translation for translation, _ in PAIRS}


@both
def test_links_lead_somewhere(translation: Path, page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", translation.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        there = (translation.parent / file) if file else translation
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    lines = is_code(page.read_text(encoding="utf-8").splitlines())
    found = [line.lstrip("#").strip() for line, code in lines if not code and re.match(r"#+ ", line)]
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).strip().replace(" ", "-") for heading in found}


@both
def test_each_names_the_others(translation: Path, page: Path) -> None:
    first, links = translation.read_text(encoding="utf-8").splitlines()[:2]
    assert first.startswith(f"<!-- English: {translations.name(page)} ")
    assert links.startswith("[English](") and links.count("](") == len(translations.LANGUAGES)
    english = page.read_text(encoding="utf-8").splitlines()[:3]
    assert any(line.startswith("[日本語](") and line.count("](") == len(translations.LANGUAGES) for line in english)


def test_a_changed_page_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(translations, "ROOT", tmp_path)
    for name in translations.TRANSLATED:
        for path in (tmp_path / name, *(tmp_path / "docs" / one / Path(name).name for one in translations.LANGUAGES)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"<!-- English: {name} -->\n# {name}\n", encoding="utf-8")
    everything = [str(one) for one, _ in translations.translations()]
    assert translations.main(["--mark", *everything]) == 0 and capsys.readouterr().out == ""
    page = tmp_path / "docs" / "resume.md"
    page.write_text(page.read_text(encoding="utf-8") + "more\n", encoding="utf-8")
    assert translations.main([]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in listed] == ["docs/ja/resume.md", "docs/ko/resume.md"]
    assert translations.main(["--mark", str(page)]) == 2
