"""Values of options on their way into JSON: manifests and saved states."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from library.options.reading.values import as_json


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ((1, 2.5, "a"), [1, 2.5, "a"]),
        ((("a", 1), ("b",)), [["a", 1], ["b"]]),
        ([Path("a") / "b"], [str(Path("a") / "b")]),
        (Path("a"), "a"),
        (None, None),
        (True, True),
        (complex(1, 2), "(1+2j)"),
    ],
)
def test_a_value_is_written_as_json_has_it(value: object, written: object) -> None:
    assert as_json(value) == written
    assert json.loads(json.dumps(as_json(value))) == written
