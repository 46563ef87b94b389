"""The tagger's known answers become the tags that the options ask for."""

import json
from pathlib import Path

import pytest

from library.preparation.tag_choice import read_replacement
from tests.messages import message, refused
from tests.preparation.tagging.starting import ALWAYS, colour, tag, tags
from tests.preparation.tiny_tagger import write_mapped_tagger


def test_tags_over_the_threshold_are_written_general_ones_first(folder: Path, model: Path) -> None:
    assert tag(folder, model) == 0
    assert tags(folder) == f"blue_sky, {ALWAYS}, miku_(someone)"
    assert tags(folder, "red") == f"red_rose, {ALWAYS}, miku_(someone)"


@pytest.mark.parametrize(
    ("flags", "written"),
    [
        ("--thresh 0.28", f"blue_sky, {ALWAYS}, miku_(someone), faint_name"),
        ("--thresh 0.45", f"blue_sky, {ALWAYS}, miku_(someone)"),  # exactly as sure counts
        ("--thresh 0.95", "blue_sky"),
        ("--general_threshold 0.2", "blue_sky, o_o, no_humans, rare_thing, some_artist, miku_(someone)"),
        ("--character_threshold 0.2", f"blue_sky, {ALWAYS}, miku_(someone), faint_name"),
        ("--thresh 0.2 --general_threshold 0.95 --character_threshold 0.95", "blue_sky"),
        ("--remove_underscore", "blue sky, o_o, no humans, some artist, miku (someone)"),
        ("--undesired_tags no_humans,o_o", "blue_sky, some_artist, miku_(someone)"),
        ("--undesired_tags no_humans;blue_sky --caption_separator ;", "o_o;some_artist;miku_(someone)"),
        ("--use_rating_tags", f"sensitive, blue_sky, {ALWAYS}, miku_(someone)"),
        ("--use_rating_tags_as_last_tag", f"blue_sky, {ALWAYS}, miku_(someone), sensitive"),
        ("--character_tags_first", f"miku_(someone), blue_sky, {ALWAYS}"),
        ("--always_first_tags some_artist,cat,o_o", "some_artist, o_o, blue_sky, no_humans, miku_(someone)"),
        ("--tag_replacement blue_sky,sky;o_o,face", "sky, face, no_humans, some_artist, miku_(someone)"),
        ("--character_threshold 1.1", f"blue_sky, {ALWAYS}"),
        ("--character_tag_expand", f"blue_sky, {ALWAYS}, miku, someone"),
        ("--use_quality_tags", f"blue_sky, {ALWAYS}, miku_(someone)"),  # this tagger knows none
        ("--artist_threshold 0.6", "blue_sky, o_o, no_humans, miku_(someone)"),
        ("--onnx", f"blue_sky, {ALWAYS}, miku_(someone)"),
    ],
)
def test_what_is_written_is_what_the_option_asks_for(folder: Path, model: Path, flags: str, written: str) -> None:
    assert tag(folder, model, *flags.split()) == 0
    assert tags(folder) == written


def test_undesired_tags_may_have_blanks_for_underscores(folder: Path, model: Path) -> None:
    assert tag(folder, model, "--undesired_tags", "no humans, blue sky", "--remove_underscore") == 0
    assert tags(folder) == "o_o, some artist, miku (someone)"


@pytest.mark.parametrize("flag", ["--caption_extension", "--caption_extention"])
def test_the_ending_of_the_files_is_the_users(folder: Path, model: Path, flag: str) -> None:
    assert tag(folder, model, flag, ".tags") == 0
    assert tags(folder, ending=".tags").startswith("blue_sky") and not (folder / "blue.txt").exists()


def test_append_keeps_what_is_there_and_adds_the_rest_and_without_it_the_file_is_replaced(folder: Path, model: Path) -> None:
    (folder / "blue.txt").write_text("mine, blue sky\n", encoding="utf-8")
    assert tag(folder, model, "--append_tags") == 0
    assert tags(folder) == f"mine, blue sky, {ALWAYS}, miku_(someone)"
    assert tag(folder, model) == 0
    assert tags(folder) == f"blue_sky, {ALWAYS}, miku_(someone)"


@pytest.mark.parametrize(
    ("before", "start"),
    [
        ("mine\nsecond line", "mine\nsecond line, blue_sky, "),
        ("mine,\r\nsecond line,\n\n", "mine,\r\nsecond line, blue_sky, "),
        ("mine, blue sky\n\n  a  b\n", "mine, blue sky\n\n  a  b, o_o, no_humans, "),
        ("\n", "blue_sky, "),
    ],
)
def test_append_never_joins_words_of_two_lines(folder: Path, model: Path, before: str, start: str) -> None:
    (folder / "blue.txt").write_text(before, encoding="utf-8", newline="")
    assert tag(folder, model, "--append_tags") == 0
    first = (folder / "blue.txt").read_bytes()
    assert first.decode("utf-8").startswith(start) and first.endswith(b"\n")
    assert tag(folder, model, "--append_tags") == 0
    assert (folder / "blue.txt").read_bytes() == first, "nothing new, nothing written"


def test_frequency_and_debug_print(folder: Path, model: Path, capsys) -> None:
    tag(folder, model)
    assert capsys.readouterr().out == ""
    tag(folder, model, "--frequency_tags", "--undesired_tags", "no_humans")
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0] == "images  tag"
        and "     2  o_o" in lines
        and "     1  blue_sky" in lines
        and not any("no_humans" in line for line in lines)
    )
    tag(folder, model, "--debug")
    shown = capsys.readouterr().out
    assert f"{folder / 'blue.png'}:\n  rating: sensitive\n  character: miku_(someone)\n  general: blue_sky, {ALWAYS}\n" in shown


def test_recursive_takes_the_folders_inside(folder: Path, model: Path) -> None:
    colour(folder / "deep" / "green.png", green=1)
    assert tag(folder, model) == 0
    assert not (folder / "deep" / "green.txt").exists()
    assert tag(folder, model, "--recursive") == 0
    assert tags(folder / "deep", "green").startswith("green_grass")


def test_files_that_are_there_are_told_before_they_are_written_anew(folder: Path, model: Path, capsys) -> None:
    (folder / "blue.txt").write_text("mine", encoding="utf-8")
    tag(folder, model, "--append_tags")
    assert "overwritten" not in capsys.readouterr().err
    tag(folder, model)
    message(capsys.readouterr().err, "2 .txt files", "overwritten", "blue.txt, red.txt")


def test_replacements_are_pairs() -> None:
    assert read_replacement("blue_sky,sky;o_o,a\\,b;") == {"blue sky": "sky", "o o": "a,b"}
    with refused("OPT-006", "--tag_replacement", "from1,to1;from2,to2", "'a'"):
        read_replacement("a")


@pytest.mark.parametrize(
    ("flags", "written"),
    [
        ("", "blue_sky, no_humans, miku_(dress)_(someone), highres, a_series, some_artist, some_model"),
        ("--meta_threshold 0.61", "blue_sky, no_humans, miku_(dress)_(someone), a_series, some_artist, some_model"),
        ("--copyright_threshold 1.1", "blue_sky, no_humans, miku_(dress)_(someone), highres, some_artist, some_model"),
        ("--artist_threshold 0.51", "blue_sky, no_humans, miku_(dress)_(someone), highres, a_series, some_model"),
        ("--model_threshold 0.46", "blue_sky, no_humans, miku_(dress)_(someone), highres, a_series, some_artist"),
        ("--thresh 0.9 --model_threshold 0.4", "blue_sky, some_model"),
        ("--thresh 0.9 --use_quality_tags", "masterpiece, blue_sky"),
        ("--thresh 0.9 --use_quality_tags --use_rating_tags", "sensitive, masterpiece, blue_sky"),
        ("--thresh 0.9 --use_quality_tags_as_last_tag", "blue_sky, masterpiece"),
        ("--thresh 0.59 --character_tags_first", "miku_(dress)_(someone), blue_sky, no_humans, highres"),
        ("--thresh 0.62 --character_tag_expand", "blue_sky, no_humans, miku_(dress), someone"),
    ],
)
def test_a_tagger_with_more_kinds_of_tags_writes_those_over_their_thresholds_the_likeliest_first(
    folder: Path, tmp_path: Path, flags: str, written: str
) -> None:
    """The form with a tag_mapping.json, named owner/name/folder; its model wants -1..1, colours first, and gives logits."""
    write_mapped_tagger(tmp_path / "models" / "some_one" / "v1")
    assert tag(folder, tmp_path / "models", "--repo_id", "some/one/v1", *flags.split()) == 0
    assert tags(folder) == written


def test_all_tags_go_into_one_file_where_one_is_named(folder: Path, model: Path, tmp_path: Path) -> None:
    whole, rows = tmp_path / "new" / "all.json", tmp_path / "all.jsonl"
    assert tag(folder, model, "--output_path", whole) == 0 and tag(folder, model, "--output_path", rows) == 0
    assert not list(folder.glob("*.txt"))
    text = f"blue_sky, {ALWAYS}, miku_(someone)"
    assert json.loads(whole.read_text(encoding="utf-8"))[str(folder / "blue.png")] == {"tags": text, "image_size": [40, 40]}
    entries = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    assert {"image_path": str(folder / "blue.png"), "caption": text, "image_size": [40, 40]} in entries and len(entries) == 2
