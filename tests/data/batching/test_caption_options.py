"""Prefix, suffix, separators, wildcards and several lines: what each draw shows, against draws worked out by hand."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from library.caption_rewriting import keep_caption
from library.data.batching.captions import Position, draw_caption, longest_texts, text_of_draw
from library.data.batching.sampler import EpochSampler
from library.data.batching.wildcards import drawn_text, replaced
from library.data.config.blueprint import SubsetOptions
from library.data.loading.dataset import TrainingDataset
from library.data.pixels.latent_build import build, look
from library.data.pixels.latent_plan import CacheRules
from library.data.scan.caption_files import with_affixes
from library.data.scan.records import scan
from library.data.scan.validation_split import split_validation
from library.seeds import fold, python_rng
from tests.data.material import encode, filled, one_epoch, photos, read, tokenize
from tests.messages import message

FULL = SubsetOptions(
    shuffle_caption=True,
    keep_tokens_separator="|||",
    secondary_separator=";;;",
    enable_wildcard=True,
    caption_prefix="mry woman |||",
    caption_suffix=", rain ||| photo",
)


def text(caption: str, settings: SubsetOptions, seed: int = 0, position: Position = Position()) -> str:  # noqa: B008
    return text_of_draw(caption, settings, seed, position, keep_caption)


def first(parts: list[str]) -> str:
    return parts[0]


def test_prefix_and_suffix_stand_around_the_caption_with_a_blank_between() -> None:
    assert text("a dog", SubsetOptions(caption_prefix="shs,", caption_suffix=", photo")) == "shs, a dog , photo"
    assert text("", SubsetOptions(caption_prefix="shs")) == "shs "
    assert text("a dog", SubsetOptions()) == "a dog"


def test_tags_of_the_prefix_move_and_count_for_keep_tokens() -> None:
    settings = SubsetOptions(caption_prefix="shs,", shuffle_caption=True, keep_tokens=2)
    assert {text("a, b, c", settings, seed) for seed in range(50)} == {"shs, a, b, c", "shs, a, c, b"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a {red|blue} dog", "a red dog"),
        ("{a|b} and {c|d}", "a and c"),
        ("{only}", "only"),
        ("{|b}", ""),
        ("{{retro style}}", "{retro style}"),
        ("{{{a|b}}}", "{a"),  # the outer pair is doubled, so the wildcard runs to the last brace
        ("{a|{b|c}}", "{a|{b|c}"),  # wildcards inside wildcards are not known: the doubled brace hides the only closing one
        ("{x|y} {}", "x {}"),
        ("no | braces", "no | braces"),
    ],
)
def test_a_wildcard_becomes_one_of_its_parts_and_doubled_braces_stay(line: str, expected: str) -> None:
    assert replaced(line, first) == expected


def test_each_part_and_each_line_is_as_likely_as_any_other_and_they_are_independent() -> None:
    """χ² over 2 lines × 3 parts; 20.5 is exceeded once in a thousand times (5 degrees of freedom)."""
    count = 6000
    settings = SubsetOptions(enable_wildcard=True)
    caption = "one {a|b|c}\ntwo {a|b|c}"
    seen = Counter(text(caption, settings, fold("draw", number)) for number in range(count))
    assert len(seen) == 6
    assert sum((times - count / 6) ** 2 / (count / 6) for times in seen.values()) < 20.5


def test_draws_are_those_of_generators_named_for_them() -> None:
    for seed in range(30):
        line = ["x {a|b}", "y {c|d|e}", "z"][python_rng(seed, "caption line").randrange(3)]
        expected = replaced(line, python_rng(seed, "wildcard").choice)
        assert drawn_text("x {a|b}\ny {c|d|e}\nz", seed) == expected


def test_a_draw_with_every_option_worked_out_by_hand() -> None:
    """Prefix and suffix, wildcard, split at |||, shuffle of what is between, then the secondary separator."""
    caption = "smile, sky;;;cloud, {simple|white} wall"
    for seed in range(40):
        wall = python_rng(seed, "wildcard").choice(["simple", "white"])
        tags = ["smile", "sky;;;cloud", f"{wall} wall", "rain"]
        python_rng(seed, "caption").shuffle(tags)
        assert text(caption, FULL, seed) == ", ".join(["mry woman", *tags, "photo"]).replace(";;;", ",")


def test_dropout_makes_the_whole_text_empty_prefix_and_all() -> None:
    assert text("a", replace(FULL, caption_dropout_rate=1.0)) == ""
    settings = replace(FULL, caption_tag_dropout_rate=1.0)
    assert text("a, b", settings) == "mry woman, photo"


def test_warm_up_counts_the_tags_that_move() -> None:
    settings = replace(FULL, shuffle_caption=False, token_warmup_min=1, token_warmup_step=100)
    assert text("a, b, c", settings, position=Position(update=0)) == "mry woman, a, photo"
    assert text("a, b, c", settings, position=Position(update=50)) == "mry woman, a, b, photo"  # 1 + ⌊50·3/100⌋ of a, b, c, rain
    assert text("a, b, c", settings, position=Position(update=100)) == "mry woman, a, b, c, rain, photo"


def test_a_single_separator_keeps_what_is_before_it_and_captions_without_one_count_tokens() -> None:
    settings = SubsetOptions(shuffle_caption=True, keep_tokens_separator="|||", keep_tokens=1)
    assert {text("a, b ||| c, d", settings, seed) for seed in range(30)} == {"a, b, c, d", "a, b, d, c"}
    assert {text("a, b, c", settings, seed) for seed in range(30)} == {"a, b, c", "a, c, b"}


def test_without_tags_that_move_the_separator_stays_as_sd_scripts_leaves_it() -> None:
    assert text("a ||| b", SubsetOptions(keep_tokens_separator="|||")) == "a ||| b"


def test_other_separators_cut_and_replace() -> None:
    settings = SubsetOptions(shuffle_caption=True, caption_separator=";", keep_tokens=1, secondary_separator="+")
    assert text("a, b; c+d", settings) == "a, b, c;d"


def test_draws_of_configs_without_the_new_options_are_what_they_were() -> None:
    settings = SubsetOptions(shuffle_caption=True, keep_tokens=1, caption_tag_dropout_rate=0.3, caption_dropout_rate=0.2)
    for seed in range(100):
        rng = python_rng(seed, "caption")
        if rng.random() < 0.2:
            expected = ""
        else:
            rest = ["b", "c", "d"]
            rng.shuffle(rest)
            expected = ", ".join(["a"] + [tag for tag in rest if rng.random() >= 0.3])
        assert (
            text("a, b, c, d", settings, seed) == expected == draw_caption("a, b, c, d", settings, python_rng(seed, "caption"), Position())
        )


def test_the_longest_texts_hold_every_line_with_its_longest_parts() -> None:
    settings = SubsetOptions(enable_wildcard=True, caption_prefix="p,", secondary_separator="+")
    assert longest_texts("{a|bbb}+x\nc", settings) == ["p, bbb,x", "c"]
    assert longest_texts("smile", FULL) == ["mry woman, smile, rain, photo"]


CONFIG = """
[[datasets]]
resolution = 64
batch_size = 2
  [[datasets.subsets]]
  image_dir = '{0}'
  caption_extension = '.txt'
  class_tokens = 'a {{tall|small}} dog'
  {1}
"""


def test_lines_of_a_file_are_captions_with_wildcards_and_the_first_alone_without(tmp_path: Path) -> None:
    photos(tmp_path / "dog", 2, (64, 64))
    (tmp_path / "dog" / "00.txt").write_bytes("\ufeffone\r\n\r\n  two {a|b} \n".encode())
    plain, drawn = (
        scan(read(tmp_path, CONFIG.format((tmp_path / "dog").as_posix(), keys))).records for keys in ("", "enable_wildcard = true")
    )
    assert [record.caption for record in plain] == ["one", "a {tall|small} dog"]
    assert [record.caption for record in drawn] == ["one\ntwo {a|b}", "a {tall|small} dog"]
    seen = {text(record.caption, record.subset, seed) for record in drawn for seed in range(40)}
    assert seen == {"one", "two a", "two b", "a tall dog", "a small dog"}


def test_tags_of_metadata_stand_behind_each_line_of_the_caption(tmp_path: Path) -> None:
    photos(tmp_path / "img", 3, (64, 64))
    (tmp_path / "meta.json").write_text(
        '{"00": {"caption": "one\\ntwo", "tags": "t\\nu"}, "01": {"tags": "t, u"}, "02": {"caption": "x\\n\\ny"}}', encoding="utf-8"
    )
    keys = "[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = '{0}/img'\nmetadata_file = '{0}/meta.json'\n{1}"
    captions = {}
    for name, more in (("plain", ""), ("lines", "enable_wildcard = true"), ("other", "caption_separator = ';'")):
        records = scan(read(tmp_path, keys.format(tmp_path.as_posix(), more))).records
        captions[name] = [record.caption for record in records]
    assert captions["lines"] == ["one, t,u\ntwo, t,u", "t, u", "x\ny"]
    assert captions["plain"][1] == "t, u" and captions["other"][0] == "one\ntwo;t\nu"


def test_cached_and_uncached_draws_show_the_keep_captions(tmp_path: Path) -> None:
    photos(tmp_path / "dog", 5, (64, 64))
    keys = "enable_wildcard = true\nshuffle_caption = true\nkeep_tokens_separator = '|||'\nnum_repeats = 4"
    for number in range(5):
        (tmp_path / "dog" / f"{number:02}.txt").write_text(f"a{number}, {{x|y|z}} ||| b, c, d\nanother, e, f", encoding="utf-8")
    data = filled(tmp_path, CONFIG.format((tmp_path / "dog").as_posix(), keys))
    cache = build(look(data, CacheRules()), encode, 1)
    sampler = EpochSampler(data, 7)
    plain = list(one_epoch(TrainingDataset(data, tokenize), sampler, 0))
    cached = list(one_epoch(TrainingDataset(data, tokenize, cache=cache), sampler, 0))
    later = one_epoch(TrainingDataset(data, tokenize), sampler, 1)
    assert [batch.captions for batch in plain] == [batch.captions for batch in cached]
    shown = {caption for batch in plain for caption in batch.captions}
    assert len(shown) > 12 and shown != {caption for batch in later for caption in batch.captions}


def test_validation_shows_all_tags_in_order_without_the_separator(tmp_path: Path) -> None:
    photos(tmp_path / "dog", 4, (64, 64))
    for number in range(4):
        (tmp_path / "dog" / f"{number:02}.txt").write_text("a ||| b;;;c, d ||| e", encoding="utf-8")
    keys = "validation_split = 0.5\nshuffle_caption = true\nkeep_tokens_separator = '|||'\n"
    keys += "secondary_separator = ';;;'\ncaption_prefix = 'p,'\n"
    _, apart = split_validation(scan(read(tmp_path, CONFIG.format((tmp_path / "dog").as_posix(), keys))))
    assert apart is not None
    assert {text(record.caption, record.subset, random.randrange(9)) for record in apart.records} == {"p, a, b,c, d, e"}


def test_what_cannot_act_is_told(tmp_path: Path) -> None:
    photos(tmp_path / "dog", 1, (64, 64))

    def findings(keys: str) -> list[str]:
        return list(scan(read(tmp_path, CONFIG.format((tmp_path / "dog").as_posix(), keys))).findings)

    message(findings("keep_tokens_separator = '|||'"), "keep_tokens_separator |||", "captions")
    assert not any("keep_tokens" in line for line in findings("keep_tokens_separator = '|||'\nshuffle_caption = true"))
    message(findings("enable_wildcard = true\ncaption_prefix = 'x'"), "first line", "caption_prefix")


def test_affixes_are_part_of_what_is_drawn_from() -> None:
    assert with_affixes("a\nb", SubsetOptions(caption_prefix="p", caption_suffix="s")) == "p a\nb s"
