"""Names and lengths that Windows refuses are reported in advance, by rules that are the same wherever they are applied."""

from pathlib import Path

import pytest
from PIL import Image

from library import windows_names
from library.data.scan import image_headers
from library.data.scan.image_headers import Unreadable, read_header
from library.options.groups.scripts import TrainNetwork
from library.options.reading.parse import parse
from library.options.rules.option_view import OptionView
from library.options.rules.output_rules import on_windows
from library.windows_names import length_fault, name_fault, path_fault
from tests import windows_rules
from tests.messages import refusals


@pytest.mark.parametrize("name", ["cat", "고양이 🐈", ".cat", "cat.v2", "console", "com10", "auxiliary", "a (2)", "LPT", "null"])
def test_names_that_windows_has(name: str) -> None:
    assert name_fault(name) is None and windows_rules.name_fault(name) is None


@pytest.mark.parametrize(
    "name", ["a:b", "a?", "a*", 'a"b', "a<b", "a|b", "CON", "nul.safetensors", "Aux .x", "com1", "LPT9.a.b", "a.", "a ", "a\n"]
)
def test_names_that_it_has_not(name: str) -> None:
    assert name_fault(name) and windows_rules.name_fault(name)


@pytest.mark.parametrize("path", [r"C:\out", r"\\server\share\out", "out/sub", r"..\out", r"D:out", r"\\?\C:\out", ".", "C:/a b/고양이"])
def test_drives_shares_and_ways_up_are_no_names(path: str) -> None:
    assert path_fault(path) is None


@pytest.mark.parametrize("path", [r"C:\out\con", r"C:\a:b", "logs/run?", "out./x", r"\\server\share\aux\x", "20:15 "])
def test_a_folder_that_cannot_be_is_found_at_any_depth(path: str) -> None:
    assert path_fault(path)


def test_the_longest_name_counts_with_what_the_suite_adds(tmp_path: Path) -> None:
    folder = Path("/" + "f" * 100)
    room = windows_names.LONGEST - 101 - 1 - windows_names.OWN
    assert length_fault(folder, ["n" * room]) is None
    assert f"up to {windows_names.LONGEST + 1} characters" in (length_fault(folder, ["n" * (room + 1), "short"]) or "")


def test_what_the_suite_adds_is_not_longer_than_said(tmp_path: Path) -> None:
    """The longest names that a run gives: a state's file while it is written, and a sample with the largest seed."""
    mark = ".0a1b-2c3d-0a1bffffff.tmp"
    state = f".-step00000100-state{mark}/training.pt"
    sample = f"sample/._e000001_00_20261122203455_{2**64 - 1}.png{mark}"
    folder = f".-ema-step00000100{mark}/text_encoder/diffusion_pytorch_model.safetensors"
    assert max(map(len, (state, sample, folder))) <= windows_names.OWN


def test_options_that_name_what_windows_has_not_are_told_by_their_name() -> None:
    options = OptionView(
        parse(TrainNetwork, ["--output_name", "aux", "--output_dir", "D:/run?", "--logging_dir", "logs", "--log_prefix", "a:b"])
    )
    refusals(
        on_windows(options, only_short=False),
        ("PATH-009", "--output_name:", "aux", "device"),
        ("PATH-009", "--output_dir:", "?"),
        ("PATH-009", "--log_prefix:"),
    )
    options = OptionView(parse(TrainNetwork, ["--output_name", "cat", "--output_dir", "/" + "f" * 200, "--log_tracker_name", "lora"]))
    assert list(on_windows(options, only_short=False)) == []
    refusals(on_windows(options, only_short=True), ("PATH-008", "--output_dir:", "long paths"))


def test_an_image_of_too_long_a_path_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows says of it that there is no such file, though the folder lists it."""
    monkeypatch.setattr(image_headers, "only_short_paths", lambda: True)
    folder = tmp_path / ("f" * 120) / ("g" * 120)
    folder.mkdir(parents=True)
    with pytest.raises(Unreadable, match="259"):
        read_header(folder / "missing.png")
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    assert read_header(folder / "a.png").size == (8, 8)
