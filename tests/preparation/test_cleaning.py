"""The table of rules cleans whole tags and whole words, and users can have their own."""

import json
from pathlib import Path

import pytest

from finetune import clean_captions_and_tags
from library.errors import UserError
from library.preparation.cleaning import clean_caption, clean_tags
from library.preparation.cleaning_rules import CaptionRules, Rules, read_rules
from library.preparation.tag_text import is_emoticon
from tests.messages import refusal
from tests.scripts.running import run_in_process


@pytest.fixture(scope="module")
def rules() -> Rules:
    return read_rules(clean_captions_and_tags.RULES, "--rules")


def clean(*argv: object) -> int:
    return run_in_process(clean_captions_and_tags.main, *argv)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("1girl, long_hair, blue_eyes", "1girl, long hair, blue eyes"),
        ("o_o, >_<, ^_^, (o)_(o), ||_||, 0_0, long_hair", "o_o, >_<, ^_^, (o)_(o), ||_||, 0_0, long hair"),
        ("smile, rating:safe", "smile"),
        ("rating:questionable, smile", "smile"),
        ("rating_explicit, smile", "smile"),
        ("ratings, smile", "ratings, smile"),  # a tag that only begins alike
        ("1girl, 2girls, smile", "2girls, smile"),
        ("1girl, multiple_girls, solo", "multiple girls"),
        ("1boy, 2boys, 3boys", "3boys"),
        ("1girl, 1boy, blue eyes, green eyes, smile", "1girl, 1boy, smile"),  # two people, and it is unclear whose eyes
        ("1girl, blue eyes, green eyes", "1girl, blue eyes, green eyes"),
        ("boysenberry, blue eyes, green eyes", "boysenberry, blue eyes, green eyes"),
        ("2girls, long hair, red hair, blonde hair", "2girls, long hair"),  # a single length is everybody's
        ("2girls, long hair, short hair, red hair", "2girls, red hair"),
        ("2girls, ponytail, side braid, long sleeves", "2girls, long sleeves"),
        ("1girl, solo", "1girl, solo"),
        ("1girl, 1boy, solo", "1girl, 1boy"),
        ("shirt, white_shirt, skirt", "white shirt, skirt"),
        ("long_hair, smile, smile, long hair", "long hair, smile"),
        ("", ""),
    ],
)
def test_tags_are_cleaned(rules: Rules, before: str, after: str) -> None:
    assert clean_tags(before, rules.tags) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("an anime girl with long hair", "a girl with long hair"),
        ("anime woman and a young lady", "girl and a girl"),
        ("Two women and an old man", "Two girls and an old boy"),
        ("A female character", "A girl character"),
        ("an adult in an anime style", "an adult in an anime style"),
        ("an anime character", "a character"),
        ("a salesperson with a ladybug, womanly", "a salesperson with a ladybug, womanly"),
        ("An arafed woman's hat", "A girl's hat"),
        ("Young woman standing", "Girl standing"),
        ("a man-made lake, a craftsman", "a man-made lake, a craftsman"),
        ("cartoon anime girls", "girls"),
        ("a dog", "a dog"),
    ],
)
def test_captions_settle_on_one_word(rules: Rules, before: str, after: str) -> None:
    assert clean_caption(before, rules.captions) == after


@pytest.mark.parametrize(
    ("tag", "face"), [("^_^", True), ("3_3", True), ("<o>_<o>", True), ("x_x", True), ("1_girl", False), ("a_b_c", False), ("_x", False)]
)
def test_an_emoticon_has_at_most_one_letter_on_each_side(tag: str, face: bool) -> None:
    assert is_emoticon(tag) == face


def test_a_whole_file_is_cleaned_and_what_is_not_text_of_ours_stays(tmp_path: Path, capsys) -> None:
    before = {
        "a": {"caption": "an anime girl", "tags": "long_hair", "train_resolution": [8, 8]},
        "b": {"caption": "a dog"},
        "c": {"other": 1},
    }
    (tmp_path / "in.json").write_text(json.dumps(before), encoding="utf-8")
    assert clean(tmp_path / "in.json", tmp_path / "out.json") == 0
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == {
        "a": {"caption": "a girl", "tags": "long hair", "train_resolution": [8, 8]},
        "b": {"caption": "a dog"},
        "c": {"other": 1},
    }
    assert json.loads((tmp_path / "in.json").read_text(encoding="utf-8")) == before
    output = capsys.readouterr()
    assert output.out == "" and "2 entries without tags: b, c" in output.err and "1 of 3 entries changed" in output.err


def test_debug_prints_what_changes(tmp_path: Path, capsys) -> None:
    (tmp_path / "m.json").write_text('{"a": {"caption": "a dog", "tags": "red_car"}}', encoding="utf-8")
    assert clean(tmp_path / "m.json", tmp_path / "m.json", "--debug") == 0
    assert capsys.readouterr().out == "a: tags\n  before: red_car\n  after:  red car\n"
    assert json.loads((tmp_path / "m.json").read_text(encoding="utf-8")) == {"a": {"caption": "a dog", "tags": "red car"}}


def test_an_entry_whose_text_is_no_text_is_told_and_the_rest_is_done(tmp_path: Path, capsys) -> None:
    (tmp_path / "m.json").write_text('{"a": {"tags": ["x"]}, "b": {"tags": "red_car"}}', encoding="utf-8")
    assert clean(tmp_path / "m.json", tmp_path / "out.json") == 1
    refusal(capsys.readouterr().err, "DATA-007", "entry 'a'", '"tags"')
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == {"a": {"tags": ["x"]}, "b": {"tags": "red car"}}


def test_users_have_their_own_rules(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[tags]\nremove = ["* hat"]\n[captions.replace]\nhound = ["dog", "puppy"]\n', encoding="utf-8")
    (tmp_path / "m.json").write_text('{"a": {"caption": "a Puppy, a woman", "tags": "red_hat, long_hair"}}', encoding="utf-8")
    assert clean(tmp_path / "m.json", tmp_path / "out.json", "--rules", tmp_path / "mine.toml") == 0
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == {"a": {"caption": "a hound, a woman", "tags": "long_hair"}}


def test_the_article_fits_the_word_that_comes_to_stand_behind_it() -> None:
    rules = CaptionRules(drop_before_people=("tiny", "old"), other_people=("elk",), replace=(("owl", ("bird",)), ("cat", ("animal",))))
    before = "A bird, an animal, a tiny elk, an old cat, an elk, a elk"
    assert clean_caption(before, rules) == "An owl, a cat, an elk, a cat, an elk, a elk"


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("[tag]\n", ("CFG-006", "[tag]", "tags?")),
        ("[tags]\nremoved = []\n", ("CFG-006", "[tags] removed", "remove?")),
        ("[tags]\nremove = 'x'\n", ("CFG-008", "[tags] remove", "list of texts", "'x'")),
        ("[tags]\nremove_less_exact = 'yes'\n", ("CFG-008", "[tags] remove_less_exact", "true or false", "'yes'")),
        ("[captions]\nreplace = ['a']\n", ("CFG-008", "[captions] replace", "['a']")),
        ("[tags\n", ("CFG-002", "TOML")),
    ],
)
def test_a_fault_in_the_table_is_told(tmp_path: Path, text: str, asked: tuple[str, ...]) -> None:
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_rules(tmp_path / "mine.toml", "--rules")
    refusal(error.value.problems[:1], *asked, tmp_path / "mine.toml")
