"""The prompt file read exactly, or refused with the place of what is wrong."""

from pathlib import Path

import pytest

from library.errors import UserError
from library.pictures.prompt_files import SamplePrompt, read_prompts
from tests.messages import refusal, refusals, refused
from tests.training.samples.texts import written

GUIDE = """# prompt 1
masterpiece, best quality, 1girl --n low quality, worst quality, bad anatomy,bad composition --w 768 --h 768 --d 1 --l 7.5 --s 28

# prompt 2
masterpiece, 1boy, well-dressed -- standing --n low effort --w 576 --h 832 --d 2 --l 5.5 --s 40
plain
"""
GUIDE_MEANS = (
    SamplePrompt("masterpiece, best quality, 1girl", "low quality, worst quality, bad anatomy,bad composition", 768, 768, 28, 7.5, 1),
    SamplePrompt("masterpiece, 1boy, well-dressed -- standing", "low effort", 576, 832, 40, 5.5, 2),
    SamplePrompt("plain", "", 512, 512, 30, 7.5, None),
)


def problems_of(folder: Path, name: str, text: str) -> list[str]:
    with pytest.raises(UserError) as error:
        read_prompts(written(folder, name, text))
    return [line.replace(str(folder) + "/", "") for line in error.value.lines]


def test_the_guides_example_is_read(tmp_path):
    assert read_prompts(written(tmp_path, "p.txt", GUIDE)) == (GUIDE_MEANS, ())


def test_a_windows_file_with_byte_order_mark_is_read_alike(tmp_path):
    path = tmp_path / "p.TXT"
    path.write_bytes(b"\xef\xbb\xbf" + GUIDE.replace("\n", "\r\n").encode())
    assert read_prompts(path) == (GUIDE_MEANS, ())


def test_toml_subsets_share_what_stands_above_them(tmp_path):
    text = """
[prompt]
width = 512
height = 768
scale = 7
negative_prompt = "bad"
[[prompt.subset]]
prompt = "one"
seed = 5
[[prompt.subset]]
prompt = "two --w 64"
width = 640
sample_steps = 12
sample_sampler = "euler_a"
"""
    assert read_prompts(written(tmp_path, "p.toml", text))[0] == (
        SamplePrompt("one", "bad", 512, 768, 30, 7.0, 5),
        SamplePrompt("two --w 64", "bad", 640, 768, 12, 7.0, None, "euler_a"),
    )
    assert read_prompts(written(tmp_path, "one.toml", '[prompt]\nprompt = "alone"\n'))[0] == (SamplePrompt("alone"),)


def test_json_lists_hold_objects_or_lines(tmp_path):
    text = '[{"prompt": "one", "seed": 3, "width": 256}, "two --s 5 --ss euler"]'
    assert read_prompts(written(tmp_path, "p.json", text))[0] == (
        SamplePrompt("one", width=256, seed=3),
        SamplePrompt("two", steps=5, sampler="euler"),
    )


def test_sides_are_rounded_to_multiples_of_eight_and_told(tmp_path):
    prompts, notes = read_prompts(written(tmp_path, "p.txt", "a --w 511 --h 100\nb --w 64"))
    assert [(prompt.width, prompt.height) for prompt in prompts] == [(504, 96), (64, 512)]
    assert len(notes) == 1
    assert "line 1: 511x100 becomes 504x96" in notes[0]


def test_all_faults_of_a_text_file_are_told_by_line(tmp_path):
    text = "a --w wide\n# --w 1\nb --ar 16:9 --d one\nc --s\nd --l big --h 99999 --ss none\n"
    refusals(
        problems_of(tmp_path, "p.txt", text),
        ("CFG-013", "p.txt line 1", "--w 'wide'", 64, 16384),
        ("CFG-013", "p.txt line 3", "--d 'one'", 0, 18446744073709551615),
        ("CFG-013", "p.txt line 4", "--s ''", 1, 999),
        ("CFG-013", "p.txt line 5", "--l 'big'", 0, 1000),
        ("CFG-013", "p.txt line 5", "--h '99999'", 64, 16384),
        ("CFG-013", "p.txt line 5", "--ss 'none'", "ddim pndm lms euler euler_a heun", "k_dpm_2 k_dpm_2_a"),
    )


@pytest.mark.parametrize(
    ("name", "text", "asked"),
    [
        ("p.toml", '[[prompt.subset]]\nprompt = "a"\nstep = 3', ("CFG-013", "prompt.subset 1", "step")),
        ("p.toml", '[[prompt.subset]]\nprompt = "a"\nwidht = 3', ("CFG-013", "prompt.subset 1", "widht", "width?")),
        ("p.toml", "[[prompt.subset]]\nwidth = 512", ("CFG-013", "prompt.subset 1", "no prompt")),
        ("p.toml", '[prompt]\nprompt = "a"\nwidth = 512.5', ("CFG-013", "width = 512.5", "whole number")),
        ("p.toml", '[prompt]\nprompt = "a"\nseed = true', ("CFG-013", "seed = True", "whole number")),
        ("p.toml", "[prompt]\nprompt = 3", ("CFG-013", "prompt = 3", "text")),
        ("p.toml", '[prompt]\nprompt = "a', ("CFG-002", "line 2", "TOML")),
        ("p.toml", '[prompts]\nprompt = "a"', ("CFG-003", "[prompt]", "[[prompt.subset]]")),
        ("p.json", '[{"prompt": "a",}]', ("CFG-002", "line 1", "JSON")),
        ("p.json", '{"prompt": "a"}', ("CFG-003", "list")),
        ("p.json", "[3]", ("CFG-013", "item 1")),
        ("p.txt", "# only remarks\n\n", ("CFG-013", "no prompt")),
        ("p.yaml", "a", ("CFG-005", ".txt, .toml or .json")),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_place(tmp_path, name, text, asked):
    (problem,) = problems_of(tmp_path, name, text)
    refusal([problem], *asked, name)
    assert "\n" not in problem


def test_a_file_in_another_encoding_or_missing_is_told(tmp_path):
    (tmp_path / "p.txt").write_bytes("犬".encode("shift_jis"))
    with refused("CFG-001", "p.txt", "UTF-8"):
        read_prompts(tmp_path / "p.txt")
    with refused("PATH-001", "none.txt"):
        read_prompts(tmp_path / "none.txt")
