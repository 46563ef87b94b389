"""sample/index.html: a grid of prompts and moments that any browser opens from the disk, whatever stands in a prompt."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

from PIL import Image

from library.pictures.prompt_files import SamplePrompt
from library.training.samples.sample_page import SamplePage
from library.training.samples.samples import SamplePlan, Samples


class Grid(HTMLParser):
    """The table of a page: heads, and for each row its name and its cells' links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.heads: list[str] = []
        self.rows: list[tuple[str, list[str | None]]] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self._inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self.links += [values[name] for name in ("href", "src") if values.get(name)]
        if tag == "th":
            self._inside.append(values["scope"])
            if values["scope"] == "col":
                self.heads.append("")
            else:
                self.rows.append(("", []))
        elif tag == "td" and self.rows:
            self.rows[-1][1].append(None)
        elif tag == "a":
            self.rows[-1][1][-1] = unquote(values["href"])

    def handle_endtag(self, tag) -> None:
        if tag == "th":
            self._inside.pop()

    def handle_data(self, data) -> None:
        if self._inside == ["col"]:
            self.heads[-1] += data
        elif self._inside == ["row"]:
            name, cells = self.rows[-1]
            self.rows[-1] = (f"{name} {data}".strip(), cells)


def paint(model, settings, device) -> Image.Image:
    if settings.prompt == "fails":
        raise RuntimeError("no")
    return Image.new("RGB", (settings.width, settings.height), (settings.steps, 0, 0))


NASTY = "a <script>alert(1)</script> \"cat\" & 'dog' {x} %s 犬 </td>"


def samples(folder: Path, *prompts: str, name: str | None = "my cat's #1") -> Samples:
    made = [SamplePrompt(prompt, "bad <b>", 64, 64, 2, 7.5, 5) for prompt in prompts]
    return Samples(made, SamplePlan(folder, name, every_n_epochs=1), paint)


def page(folder: Path) -> Grid:
    return Grid((folder / "sample" / "index.html").read_text(encoding="utf-8"))


def test_a_row_for_each_moment_newest_first_and_a_column_for_each_prompt(tmp_path: Path) -> None:
    drawing = samples(tmp_path, NASTY, "a dog")
    drawing.draw(None, 0, 0, "cpu")
    first = page(tmp_path)
    assert len(first.rows) == 1
    drawing.draw(None, 6, 1, "cpu")
    drawing.draw(None, 7, None, "cpu")
    grid = page(tmp_path)
    assert grid.heads == [NASTY + "bad <b>", "a dogbad <b>"]
    assert [name.split(" 20")[0] for name, _ in grid.rows] == ["update 7", "epoch 1 update 6", "before training"]
    assert [len(cells) for _, cells in grid.rows] == [2, 2, 2]
    for _, cells in grid.rows:
        assert all((tmp_path / "sample" / cell).is_file() for cell in cells)


def test_prompts_are_text_and_links_are_relative(tmp_path: Path) -> None:
    samples(tmp_path, NASTY).draw(None, 6, 1, "cpu")
    grid = page(tmp_path)
    assert grid.tags.count("script") == 1  # the page's own
    text = (tmp_path / "sample" / "index.html").read_text(encoding="utf-8")
    assert "alert(1)</script>" not in text and str(tmp_path) not in text
    assert grid.links and not [link for link in grid.links if "/" in link or ":" in link]
    assert "http" not in text  # nothing is fetched from anywhere


def test_a_later_part_of_the_run_finds_what_the_earlier_drew(tmp_path: Path) -> None:
    samples(tmp_path, "a", "b").draw(None, 6, 1, "cpu")
    samples(tmp_path, "a", "changed").draw(None, 12, 2, "cpu")
    grid = page(tmp_path)
    assert [head.removesuffix("bad <b>") for head in grid.heads] == ["a", "b", "changed"]
    assert [[cell is not None for cell in cells] for _, cells in grid.rows] == [[True, False, True], [True, True, False]]


def test_other_runs_and_other_files_are_left_out(tmp_path: Path) -> None:
    samples(tmp_path, "a", name="cat").draw(None, 6, 1, "cpu")
    samples(tmp_path, "a", name="cat_2").draw(None, 6, 1, "cpu")
    samples(tmp_path, "a", name=None).draw(None, 6, 1, "cpu")
    (tmp_path / "sample" / "cat_e000009_00_20260101000000_1.png").write_bytes(b"\x89PNG truncated")
    Image.new("RGB", (8, 8)).save(tmp_path / "sample" / "mine.png")
    for name in ("cat", "cat_2", None):
        found = SamplePage(tmp_path / "sample", name).samples()
        assert [sample.path.name.partition("_e0")[0] for sample in found] == [name] if name else len(found) == 1


def test_a_missing_sample_is_an_empty_place(tmp_path: Path) -> None:
    drawing = samples(tmp_path, "a", "fails")
    drawing.draw(None, 6, 1, "cpu")
    assert page(tmp_path).heads == ["abad <b>"]
    assert (drawing.drawn, drawing.failed) == (1, 1)


def test_the_page_says_whether_training_goes_on(tmp_path: Path) -> None:
    drawing = samples(tmp_path, "a")
    drawing.draw(None, 6, 1, "cpu")
    path = tmp_path / "sample" / "index.html"
    assert "training is running" in path.read_text(encoding="utf-8")
    drawing.write_page(running=False)
    assert "training has ended" in path.read_text(encoding="utf-8")
    assert [entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")] == []


def test_a_page_that_cannot_be_written_is_told_once(tmp_path: Path, heard) -> None:
    (tmp_path / "sample" / "index.html").mkdir(parents=True)
    drawing = samples(tmp_path, "a")
    for epoch in (1, 2):
        assert len(drawing.draw(None, 6, epoch, "cpu")) == 1
    assert len([message for message in heard.lines if "gets no page" in message]) == 1
    assert drawing.places() == [f"samples: {tmp_path / 'sample'} (2 images)"]
