"""What README.md and docs/ name is there: options, files, and the places that links lead to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from library.options.declare import options_of
from library.options.groups.scripts import SCRIPTS
from library.options.tool_groups.table import TOOLS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "RESULTS.md"]
# those of accelerate, torchrun, Docker, pip, tensorboard, web interfaces, DeepDanbooru, of benchmarks and examples, and the letters of
# sample prompts
OF_OTHERS = set(
    "machine_rank num_machines main_process_ip main_process_port quiet num_cpu_threads_per_process multi_gpu dynamo_backend num_processes "
    "cpu nproc_per_node shm-size logdir no-half-vae project-path allow-folder save-txt photos help sd_scripts minutes method "
    "n w h d l s ss am t i m".split()
)


def known() -> set[str]:
    return {name for spec in (*SCRIPTS, *TOOLS) for option in options_of(spec) for name in option.names} | OF_OTHERS


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_option_that_is_named_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w-])--([A-Za-z][\w-]*)(?![\w*-])", text))
    starts = set(re.findall(r"(?<![\w-])--([a-z][\w-]*)\*", text))  # --save_last_n_*
    assert sorted(named - known()) == []
    assert all(any(name.startswith(start) for name in known()) for start in starts)


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        found = page.parent / file if file else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_script_that_is_named_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in set(re.findall(r"(?<![\w/.<*])((?:finetune|networks|tools|library|examples|benchmarks)/[\w/.-]+\.(?:py|md|toml))", text)):
        assert (ROOT / name).exists(), name


def test_every_page_can_be_found_from_the_first() -> None:
    seen, left = set(), {ROOT / "README.md"}
    while left:
        page = left.pop()
        seen.add(page)
        for target in re.findall(r"\]\(([^)#\s]+\.md)", page.read_text(encoding="utf-8")):
            linked = (page.parent / target).resolve()
            if "://" not in target and linked not in seen:
                left.add(linked)
    assert sorted(page.name for page in PAGES if page.resolve() not in {one.resolve() for one in seen}) == []
