"""docs/options.md says what the declarations say."""

from library.options.reading.docs import PAGE, page


def test_the_page_is_the_one_that_the_declarations_give() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m library.options.reading.docs`"
