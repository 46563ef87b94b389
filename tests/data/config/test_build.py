"""Reading a dataset config: levels, forms, and all errors at once, each with what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from library.data.config.blueprint import METADATA, check_caching
from library.data.config.keys import KEYS, OTHER_NAMES
from library.data.scan.records import scan
from library.options.declare import options_of
from library.options.groups.scripts import TrainNetwork
from tests.data.config.faults import ONE, faults
from tests.data.material import config, read
from tests.messages import message, refusal, refusals

ROOT = Path(__file__).parents[3]


def test_lower_levels_override_higher_ones_and_the_file_overrides_the_command_line(folder: Path) -> None:
    text = f"""
    [general]
    keep_tokens = 1
    enable_bucket = true
    [[datasets]]
    resolution = [512, 768]
    shuffle_caption = true
      [[datasets.subsets]]
      image_dir = '{folder / "dog"}'
      class_tokens = 'shs dog'
      num_repeats = 10
      [[datasets.subsets]]
      image_dir = '{folder / "reg"}'
      class_tokens = 'dog'
      is_reg = true
      keep_tokens = 2
      shuffle_caption = false
    [[datasets]]
    batch_size = 4
    keep_tokens = 3
    enable_bucket = false
      [[datasets.subsets]]
      image_dir = '{folder / "dog"}'
      class_tokens = 'shs dog'
      face_crop_aug_range = [2.0, 4.0]
    """
    defaults = {
        "resolution": "448,640", "train_batch_size": 2, "keep_tokens": 9, "flip_aug": True, "caption_dropout_rate": 0.1,
        "face_crop_aug_range": "1.0,3.0", "dataset_repeats": 5, "min_bucket_reso": None, "learning_rate": 1e-4,
    }  # fmt: skip
    blueprint = read(folder, text, defaults)
    first, second = blueprint.datasets
    assert first.options.resolution == (512, 768) and first.options.batch_size == 2 and first.options.enable_bucket
    assert second.options.resolution == (448, 640) and second.options.batch_size == 4 and not second.options.enable_bucket
    assert [(subset.keep_tokens, subset.shuffle_caption, subset.num_repeats) for subset in blueprint.subsets()] == [
        (1, True, 10), (2, False, 5), (3, False, 5),
    ]  # fmt: skip
    assert all(subset.flip_aug and subset.caption_dropout_rate == 0.1 for subset in blueprint.subsets())
    assert [subset.face_crop_aug_range for subset in blueprint.subsets()] == [(1.0, 3.0), (1.0, 3.0), (2.0, 4.0)]
    assert blueprint.subsets()[1].is_reg and blueprint.subsets()[1].place == "set.toml: datasets[0].subsets[1]"


EVERYTHING_WRONG = r"""
resoluton = 512
[general]
enable_bucket = "true"
image_dir = 'x'
train_batch_size = 3
max_token_length = 225
[[datasets]]
resolution = [512, -500]
batch_sise = 4
keep_tokens = -1
  [[datasets.subsets]]
  image_dir = 'HERE/dgo'
  num_repeats = "10"
  [[datasets.subsets]]
  image_dir = 'HERE/empty'
  batch_size = 2
  is_reg = 1
[[datasets]]
resolution = 500
  [[datasets.subsets]]
  image_dir = "HERE\train"
  caption_dropout_rate = 1.5
  caption_extension = "txt"
  [[datasets.subsets]]
  metadata_file = 'HERE/met.json'
  is_reg = true
  [[datasets.subsets]]
  image_dir = 'HERE/dog/00.png'
  face_crop_aug_range = [4.0, 2.0]
"""


def test_all_faults_are_told_in_one_go_with_place_value_and_remedy(folder: Path) -> None:
    lines = faults(folder, EVERYTHING_WRONG, {"min_bucket_reso": 3}, frozenset({"dreambooth"}))
    for code, place, *names in [
        ("CFG-006", "resoluton", "resolution?"),
        ("CFG-008", "general.enable_bucket", '"true"', "enable_bucket = true"),
        ("CFG-007", "general.image_dir", "[[datasets.subsets]]"),
        ("CFG-006", "general.train_batch_size", "batch_size?"),
        ("CFG-006", "general.max_token_length", "--config_file"),
        ("CFG-008", "datasets[0].resolution", "[512, -500]", "pixels"),
        ("CFG-006", "datasets[0].batch_sise", "batch_size?"),
        ("CFG-008", "datasets[0].keep_tokens", "is -1", "0 to"),
        ("PATH-001", "datasets[0].subsets[0].image_dir", f"'{folder / 'dog'}'?"),
        ("CFG-008", "datasets[0].subsets[0].num_repeats", '"10"', "0 to 1000000", "num_repeats = 10", "quotes"),
        ("DATA-003", "datasets[0].subsets[1].image_dir", folder / "empty"),
        ("CFG-007", "datasets[0].subsets[1].batch_size", "[[datasets]]", "[general]"),
        ("CFG-008", "datasets[0].subsets[1].is_reg", "is 1", "is_reg = true"),
        ("CFG-008", "datasets[1].subsets[0].image_dir", "\\t is a tab"),
        ("CFG-008", "datasets[1].subsets[0].caption_dropout_rate", 1.5, "0 to 1"),
        ("CFG-008", "datasets[1].subsets[0].caption_extension", '"txt"', 'caption_extension = ".txt"'),
        ("CFG-010", "datasets[1]", "(subsets[1])", "(subsets[0], subsets[2])", "[[datasets]]"),
        ("DATA-008", "datasets[1].subsets[1].metadata_file", "fine_tune.py or train_network.py"),
        ("CFG-010", "datasets[1].subsets[1].is_reg", "metadata_file"),
        ("PATH-001", "datasets[1].subsets[1].metadata_file", f"'{folder / 'meta.json'}'?"),
        ("PATH-003", "datasets[1].subsets[2].image_dir", folder / "dog/00.png"),
        ("CFG-008", "datasets[1].subsets[2].face_crop_aug_range", "[4.0, 2.0]", "smaller one first"),
        ("OPT-006", "--min_bucket_reso", 3, "8 to 32768", "--min_bucket_reso 256"),
    ]:
        where = str(place) if code == "OPT-006" else f"set.toml: {place}"
        refusal([line for line in lines if line.startswith(where)], str(code), *names)
    assert len(lines) == len(set(lines)) == 23, "nothing twice, nothing made up"


def test_folder_whose_folders_hold_the_images_is_told(folder: Path) -> None:
    lines = faults(folder, f"[[datasets]]\nresolution = 512\n[[datasets.subsets]]\nimage_dir = '{folder}'\nclass_tokens = 'x'")
    refusals(lines, ("DATA-003", f"image_dir: '{folder}'", "'dog' (2 images)", "'reg' (1 image)", f"image_dir = '{folder / 'dog'}'"))


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("resolution = 512\n" + ONE.format("", ""), ("CFG-007", "resolution", "[[datasets]]", "[general]")),
        (ONE.format("resolution = [512, 0]", ""), ("CFG-008", "resolution is [512, 0]")),
        (ONE.format("resolution = 512", "face_crop_aug_range = [0.5, 2.0]"), ("CFG-008", "[0.5, 2.0]", "at least 1")),
    ],
)
def test_one_fault_is_told_once(folder: Path, text: str, asked: tuple[str, ...]) -> None:
    refusals(faults(folder, text), asked)


def test_a_subset_without_images_beside_others_is_left_out_with_a_warning(folder: Path) -> None:
    more = "[[datasets.subsets]]\nimage_dir = 'HERE/empty'\nclass_tokens = 'x'\n[[datasets]]\nresolution = 64\n"
    more += "[[datasets.subsets]]\nimage_dir = 'HERE/empty'\nclass_tokens = 'y'\n"
    blueprint = read(folder, (ONE.format("resolution = 512", "") + more).replace("HERE", folder.as_posix()))
    assert [subset.image_dir for subset in blueprint.subsets()] == [folder / "dog"]
    first, second = blueprint.findings
    message([first], "set.toml: datasets[0].subsets[1].image_dir:", "empty", "skipped")
    message([second], "set.toml: datasets[1].subsets[0].image_dir:", "empty", "skipped")


def test_keys_of_sd_scripts_that_do_nothing_here_are_told_in_one_finding(folder: Path) -> None:
    text = ONE.format("resolution = 512\nskip_image_resolution = '64,64'", "cache_info = true").replace("HERE", folder.as_posix())
    (line,) = read(folder, text).findings
    message([line], "set.toml:", "skip_image_resolution, cache_info", "sd-scripts", "remove them")
    refusals(
        faults(folder, ONE.format("resolution = 512", "caption_extensoin = '.txt'")), ("CFG-006", "caption_extensoin", "caption_extension?")
    )


def test_folder_of_hidden_images_is_told_as_such(folder: Path) -> None:
    (folder / "mac").mkdir()
    (folder / "mac/._a.png").write_bytes(b"a Mac's note")
    lines = faults(folder, ONE.replace("HERE/dog", "HERE/mac").format("resolution = 512", ""))
    refusals(lines, ("DATA-003", f"image_dir: '{folder / 'mac'}'", ".png .jpg .jpeg .webp .bmp", "1 hidden file"))


def test_script_for_metadata_only_refuses_folders(folder: Path) -> None:
    lines = faults(folder, ONE.format("resolution = 512", ""), forms=frozenset({METADATA}))
    refusals(lines, ("DATA-008", "metadata_file = ", "train_db.py or train_network.py"))


def test_other_faults_of_a_subset_are_not_told_as_missing_repeats(folder: Path) -> None:
    refusals(faults(folder, ONE.format("resolution = 512", "keep_tokens = -1")), ("CFG-008", "keep_tokens is -1"))


def test_duplicate_and_unrepeated_subsets_are_left_out_with_a_finding(folder: Path) -> None:
    text = ONE.format("resolution = 512", "") + "[[datasets.subsets]]\nimage_dir = 'HERE/dog'\nclass_tokens = 'y'\n"
    text += "[[datasets.subsets]]\nimage_dir = 'HERE/reg'\nclass_tokens = 'y'\nnum_repeats = 0\n"
    blueprint = read(folder, text.replace("HERE", folder.as_posix()))
    assert [subset.class_tokens for subset in blueprint.subsets()] == ["x"]
    assert ["subsets[1]: ignored" in blueprint.findings[0], "subsets[2]: skipped" in blueprint.findings[1]] == [True, True]
    assert scan(blueprint).findings[:2] == blueprint.findings


def test_a_folder_is_the_same_by_whatever_path(folder: Path) -> None:
    text = ONE.format("resolution = 512", "") + "[[datasets.subsets]]\nimage_dir = 'HERE/reg/../dog'\nclass_tokens = 'y'\n"
    (finding,) = read(folder, text.replace("HERE", folder.as_posix())).findings
    assert "subsets[1]: ignored" in finding


def test_what_changes_pixels_is_refused_with_latent_caching_and_flipping_is_not(folder: Path) -> None:
    text = ONE.format("resolution = 512", "flip_aug = true\ncolor_aug = true\nrandom_crop = true\nface_crop_aug_range = [2.0, 4.0]")
    lines = check_caching(read(folder, text.replace("HERE", folder.as_posix())))
    assert [line.split(": ")[2].split()[0] for line in lines] == ["color_aug", "random_crop", "face_crop_aug_range"]
    assert check_caching(read(folder, ONE.format("resolution = 512", "flip_aug = true").replace("HERE", folder.as_posix()))) == []


def test_a_key_that_is_left_out_means_what_the_option_of_its_name_means_when_it_is(folder: Path) -> None:
    dataset = read(folder, ONE.format("resolution = 512", "").replace("HERE", folder.as_posix())).datasets[0]
    read_off = vars(dataset.subsets[0]) | vars(dataset.options)
    usual = {name: option.default for option in options_of(TrainNetwork) for name in option.names}
    names = {name: OTHER_NAMES.get(name, name) for name in usual}
    where = ("resolution", "image_dir", "metadata_file", "validation_seed")  # named here; a seed that is left out is 0
    shared = {option: key for option, key in names.items() if key in KEYS and key not in where}
    assert len(shared) > 20
    assert {option: read_off[key] for option, key in shared.items()} == {option: usual[option] for option in shared}


def test_config_is_read_without_torch_and_in_a_moment(folder: Path) -> None:
    path = config(folder / "set.toml", EVERYTHING_WRONG.replace("HERE", folder.as_posix()))
    code = (
        "import sys, time; start = time.process_time()\n"
        "from library.data.config.build import read_config\nfrom library.errors import UserError\n"
        f"try: read_config({str(path)!r}, {{}}, frozenset({{'dreambooth'}}))\nexcept UserError: pass\n"
        "import library.data.scan.records, library.data.batching.sampler, library.data.batching.captions\n"
        "import library.data.config.folders, library.data.scan.metadata\n"
        "assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)\nprint(time.process_time() - start)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.0  # about 0.1 s on an idle core


@pytest.mark.parametrize("repeats", ["1000001", "20000000", "9" * 60])
def test_repeats_have_a_bound(folder: Path, repeats: str) -> None:
    (line,) = faults(folder, ONE.format("resolution = 512", f"num_repeats = {repeats}"))
    refusal([line], "CFG-008", "num_repeats", "0 to 1000000")
    assert len(line) < 200


@pytest.mark.parametrize("mark", [" {}", "{} ", "'{}'", "“{}”", "\u3000{}"])
def test_blanks_and_quotes_inside_a_path_are_told(folder: Path, mark: str) -> None:
    quote = '"' if "'" in mark else "'"
    text = ONE.replace("'HERE/dog'", quote + mark.format("HERE/dog") + quote).format("resolution = 512", "")
    (line,) = faults(folder, text)
    refusal([line], "PATH-001", "image_dir", f"write '{folder / 'dog'}'")
    assert ("quotes inside the quotes" in line) == any(sign in mark for sign in "'“")


@pytest.mark.parametrize("sign", ["¥", "₩"])
def test_a_yen_or_won_sign_in_a_path_is_not_a_backslash(folder: Path, sign: str) -> None:
    (line,) = faults(folder, ONE.replace("HERE/dog", f"C:{sign}photos{sign}dog").format("resolution = 512", ""))
    assert f"it contains {sign}, which is not a backslash: write / instead" in line
