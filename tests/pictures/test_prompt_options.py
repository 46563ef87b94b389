"""Options of sample prompts as sd-scripts reads them, and a warning for each that is not read as it may seem."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from library.pictures.prompt_files import PromptReader, SamplePrompt, read_prompts
from tests.messages import message, refused

EXAMPLES: list[tuple[str, SamplePrompt, tuple[object, ...]]] = [
    # what sd-scripts reads, silently
    ("a --w 64 --h 128 --d 1 --s 2 --l 3.5 --n b --ss euler", SamplePrompt("a", "b", 64, 128, 2, 3.5, 1, "euler"), ()),
    ("a --W 64 --N b, c --D 5", SamplePrompt("a", "b, c", 64, seed=5), ()),
    ("a --d -1", SamplePrompt("a"), ()),
    ("a well--dressed man-made x -1 --w 64", SamplePrompt("a well--dressed man-made x -1", width=64), ()),
    ("a - b — c – d -- e", SamplePrompt("a - b — c – d -- e"), ()),
    ("a --n b --w 64,", SamplePrompt("a", "b", 64), ()),
    ("a --l .5", SamplePrompt("a", guidance=0.5), ()),
    # what it takes otherwise
    ("a --s 0", SamplePrompt("a", steps=1), ("--s '0'", "1 is used", 999)),
    ("a --s 5000", SamplePrompt("a", steps=999), ("--s '5000'", "999 is used")),
    ("a --h 32", SamplePrompt("a", height=64), ("--h '32'", "64 is used")),
    ("a --d -7", SamplePrompt("a"), ("--d '-7'", "below 0", "random")),
    ("a --s 3 --s 4", SamplePrompt("a", steps=4), ("--s is given twice", "last one")),
    ("a --w 64 b", SamplePrompt("a", width=64), ("--w 64", "'b'", "ignored")),
    ("--n b", SamplePrompt("", "b"), ("no words", "without a prompt")),
    # options of other programs, and slips
    (
        "a --negative_prompt b --w 64",
        SamplePrompt("a", width=64),
        ("--negative_prompt is unknown", "everything after it", "did you mean --n?"),
    ),
    ("a --negativ b", SamplePrompt("a"), ("--negativ is unknown", "did you mean --n?")),
    ("a --width 64", SamplePrompt("a"), ("--width is unknown", "everything after it", "did you mean --w?")),
    ("a --steps=3", SamplePrompt("a"), ("--steps is unknown", "did you mean --s?")),
    ("a --w64", SamplePrompt("a"), ("--w64 is unknown", "everything after it", "write --w 64")),
    ("a --d-1", SamplePrompt("a"), ("--d-1 is unknown", "write --d -1")),
    ("a --ar 16:9 --w 64", SamplePrompt("a", width=64), ("--ar is unknown", "everything after it", "--n --w --h")),
    ("a --g 3.5", SamplePrompt("a"), ("--g has no effect", "Flux")),
    ("a --am 0.5,1", SamplePrompt("a"), ("--am has no effect",)),
    ("a --cn c:/my image.png --n b", SamplePrompt("a", "b"), ("--cn has no effect",)),
    ("a --ctr 0.25", SamplePrompt("a"), ("--ctr has no effect",)),
    # dashes that are no two hyphens
    ("a -n bad", SamplePrompt("a -n bad"), ("-n is part of the prompt", "two hyphens: --n")),
    (
        "a —n bad",
        SamplePrompt("a —n bad"),
        ("—n is part of the prompt", "two hyphens", "word processor", "--n"),
    ),
    ("a –w 64 --h 64", SamplePrompt("a –w 64", height=64), ("–w is part of the prompt", "two hyphens", "word processor", "--w")),
    ("a −d 5", SamplePrompt("a −d 5"), ("−d is part of the prompt", "word processor", "--d")),
    ("a —w64", SamplePrompt("a —w64"), ("—w is part of the prompt", "word processor", "--w")),
    (
        "a --n b —negative_prompt c",
        SamplePrompt("a", "b —negative_prompt c"),
        ("—negative_prompt is part of the prompt", "word processor", "--n"),
    ),
    ("a ---w 64", SamplePrompt("a ---w 64"), ("---w is part of the prompt", "two hyphens: --w")),
]


@pytest.mark.parametrize(("line", "prompt", "names"), EXAMPLES, ids=[line for line, _, _ in EXAMPLES])
@pytest.mark.parametrize("name", ["p.txt", "p.json"])
def test_a_line_is_read_as_sd_scripts_reads_it_or_told(
    line: str, prompt: SamplePrompt, names: tuple[object, ...], name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(json.dumps([line]) if name == "p.json" else line, encoding="utf-8")
    prompts, notes = read_prompts(path)
    assert prompts == (prompt,)
    place = f"{path} item 1: " if name == "p.json" else f"{path} line 1: "
    assert len(notes) == bool(names)
    if names:
        message(notes, place, *names)


@pytest.mark.parametrize(
    ("item", "prompt", "names"),
    [
        ({"prompt": "a", "seed": None, "negative_prompt": None, "width": None, "sample_sampler": None}, SamplePrompt("a"), ()),
        ({"prompt": "a", "seed": -1}, SamplePrompt("a"), ()),
        ({"prompt": "a", "width": 128.0, "height": "64"}, SamplePrompt("a", width=128, height=64), ()),
        ({"prompt": "a", "sample_steps": 0}, SamplePrompt("a", steps=1), ("sample_steps = 0", "1 is used")),
        ({"prompt": "a", "guidance_scale": 3.5}, SamplePrompt("a"), ("guidance_scale has no effect",)),
        ({"prompt": "a", "controlnet_image": "x.png"}, SamplePrompt("a"), ("controlnet_image has no effect",)),
        ({"prompt": "", "seed": 0}, SamplePrompt("", seed=0), ("no words", "without a prompt")),
        ({"prompt": "a --w 64"}, SamplePrompt("a --w 64"), ("--w is part of the prompt", "width = 512")),
        ({"prompt": "a —n b"}, SamplePrompt("a —n b"), ("—n is part of the prompt", "word processor", "--n")),
    ],
)
def test_an_object_is_read_as_sd_scripts_reads_it_or_told(
    item: dict[str, object], prompt: SamplePrompt, names: tuple[object, ...], tmp_path: Path
) -> None:
    (tmp_path / "p.json").write_text(json.dumps([item]), encoding="utf-8")
    prompts, notes = read_prompts(tmp_path / "p.json")
    assert prompts == (prompt,)
    assert len(notes) == bool(names)
    if names:
        message(notes, *names)


@pytest.mark.parametrize("empty", ["", "  ", {}, None, {"prompt": ""}, {"prompt": None, "seed": None}])
def test_an_empty_entry_is_left_out_and_told(empty: object, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps(["a", empty, "b"]), encoding="utf-8")
    prompts, notes = read_prompts(tmp_path / "p.json")
    assert [prompt.prompt for prompt in prompts] == ["a", "b"]
    assert len(notes) == 1
    message(notes, tmp_path / "p.json", "item 2", "skipped")


def test_prompts_in_other_scripts_are_one_warning_and_accents_are_none(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("a café — “naïve” №\n고양이 --n ねこ\nкошка\n", encoding="utf-8")
    _, (note,) = read_prompts(path)
    assert "line 2" in note and "고양이" in note and "2 others" in note and "English" in note


def test_a_prompt_that_is_not_valid_text_is_refused_wherever_it_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text('[{"prompt": "a cat", "negative_prompt": "b\\udce9"}]', encoding="utf-8")
    with refused("CFG-013", "prompts.json", "item 1", "not valid text"):
        read_prompts(path)
    with refused("CFG-013", "--prompt", "udce9"):
        PromptReader("--prompt").read_one("a\udce9")
