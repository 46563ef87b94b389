"""Spoils one file of the surroundings, by its kind: what lies, what is truncated, what stands in its place."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path

from tests.attack.values import LONG, TOML_VALUES
from tests.lying.data_files import npy, png, write_npz
from tests.lying.headers import lying_safetensors
from tests.lying.modules import LYING_KIN, LYING_MODULES, write_lora
from tests.lying.pickles import BOMBS, LYING_TENSORS, damaged_zips, write_pickle

WRONG_JSON = (
    None, True, -1, 0, 3, 1.5, 10**19, -(10**19), "", "x", "\x1b[31m", "a\nb", "\ud800", "é🐾", LONG, "9" * 5_000, [], {}, [[]], ["a"],
    [1, 2], {"a": 1}, [{"a": 1}], "nan", "../../x", "/", "~nobody/x", 10**300, 1e308, "\u0000", [None], {"": None},
)  # fmt: skip
RAW_JSON = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e400",
    "9" * 5_000,
    "[" * 5_000 + "]" * 5_000,
    '{"a":' * 5_000 + "1" + "}" * 5_000,
    "'x'",
    "nul",
    "01",
    "1,,2",
    "",
)
WRONG_KEYS = ("x", "image_dirr", '""', "a.b.c", "é", '"\\u001b[2J"', "a b", "9" * 5_000, ".".join("a" * 3_000))
WRONG_TABLES = ("[", "[]", "[[]]", "[a", "[general]", "[[general]]", "[datasets]", "[[x.y]]", "[" + ".".join("a" * 3_000) + "]", "[prompt]")
Spoiler = Callable[[Path, random.Random], str]


def spoil(path: Path, rng: random.Random) -> str:
    """Spoil the file in one way or another; what was done, in words."""
    kinds = BY_ENDING.get(path.suffix.lower(), ())
    way = rng.choice((*kinds, *kinds, *kinds, *ANY)) if kinds else rng.choice(ANY)
    return way(path, rng)


def _replaced(make: Callable[[Path], object], words: str) -> Spoiler:
    def act(path: Path, rng: random.Random) -> str:
        path.unlink()
        make(path)
        return words

    return act


def _fresh(path: Path, content: bytes) -> None:
    """Write to a new file: the old one may be shared with the surroundings of other cases."""
    path.unlink()
    path.write_bytes(content)


def _cut(path: Path, rng: random.Random) -> str:
    content = path.read_bytes()
    length = rng.randrange(len(content) or 1)
    _fresh(path, content[:length])
    return f"cut to {length} bytes"


def _bytes_changed(path: Path, rng: random.Random) -> str:
    content = bytearray(path.read_bytes() or b" ")
    places = [rng.randrange(min(len(content), rng.choice((64, 4096, 1 << 40)))) for _ in range(rng.choice((1, 3, 30)))]
    for place in places:
        content[place] = rng.randrange(256)
    _fresh(path, bytes(content))
    return f"{len(places)} bytes changed from {min(places)} on"


def _content(content: bytes, words: str) -> Spoiler:
    def act(path: Path, rng: random.Random) -> str:
        _fresh(path, content)
        return words

    return act


def _recoded(encoding: str) -> Spoiler:
    def act(path: Path, rng: random.Random) -> str:
        _fresh(path, path.read_bytes().decode("latin1").encode(encoding, "replace"))
        return f"as {encoding}"

    return act


def _mangled_json(path: Path, rng: random.Random) -> str:
    tree = json.loads(path.read_text(encoding="utf-8"))
    places = list(_places(tree))
    if not places or rng.random() < 0.1:
        wrong = rng.choice(WRONG_JSON)
        _fresh(path, json.dumps(wrong).encode("ascii"))
        return f"is {json.dumps(wrong)[:60]}"
    holder, key = rng.choice(places)
    if rng.random() < 0.1:
        if isinstance(holder, dict):
            holder.pop(key)
        else:
            holder.append(holder[key])
        _fresh(path, json.dumps(tree).encode("ascii"))
        return f"without, or with more of, {key!r}"
    mark = "@@here@@"
    holder[key] = mark
    wrong_text = rng.choice(RAW_JSON) if rng.random() < 0.25 else json.dumps(rng.choice(WRONG_JSON))
    _fresh(path, json.dumps(tree).replace(f'"{mark}"', wrong_text).encode("ascii"))
    return f"{key!r} is {wrong_text[:60]}"


def _places(tree: object) -> list[tuple[object, object]]:
    found: list[tuple[object, object]] = []
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            found += [(tree, key), *_places(value)]
    return found


def _mangled_toml(path: Path, rng: random.Random) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    number = rng.choice([number for number, line in enumerate(lines) if line.strip()])
    way = rng.choice(("value", "value", "value", "value", "twice", "gone", "key", "table", "quote"))
    line = lines[number]
    if way == "value" and "=" in line:
        lines[number] = f"{line.partition('=')[0]}= {rng.choice(TOML_VALUES)}"
    elif way == "twice":
        lines.insert(number, line)
    elif way == "gone":
        del lines[number]
    elif way == "key":
        lines.insert(number, f"{rng.choice(WRONG_KEYS)} = 1")
    elif way == "table":
        lines.insert(number, rng.choice(WRONG_TABLES))
    else:
        lines[number] = re.sub("['\"]", rng.choice(("", "“", "`", '"', "'''")), line)
    _fresh(path, "\n".join(lines).encode("utf-8", "surrogatepass"))
    return f"line {number + 1}, {way}: {lines[min(number, len(lines) - 1)][:60] if lines else ''}"


def _mangled_text(path: Path, rng: random.Random) -> str:
    content = path.read_text(encoding="utf-8")
    words = content.split(" ")
    wrong = rng.choice(
        (
            "9" * 5_000,
            "-1",
            "nan",
            "1e400",
            "\x1b[31m",
            "\x00",
            "{a|",
            "(" * 500,
            "--x",
            "--w",
            "--ss x",
            "--d -9",
            "—w 5",
            LONG,
            "é",
            "--s 9999999999999999999",
        )
    )
    words[rng.randrange(len(words))] = wrong
    _fresh(path, " ".join(words).encode("utf-8"))
    return f"with {wrong[:40]!r}"


def _lying_safetensors(path: Path, rng: random.Random) -> str:
    name, content = rng.choice(sorted(lying_safetensors(path.read_bytes()).items()))
    _fresh(path, content)
    return name


def _lying_lora(path: Path, rng: random.Random) -> str:
    name, changed = rng.choice([*LYING_MODULES.items(), *LYING_KIN.items()])
    path.unlink()
    write_lora(
        path.with_suffix(".safetensors"), **(changed if name in LYING_MODULES else {"down": None, "up": None, "alpha": None, **changed})
    )
    if path.suffix != ".safetensors":
        path.with_suffix(".safetensors").rename(path)
    return f"a LoRA with {name}"


def _lying_metadata(path: Path, rng: random.Random) -> str:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(path, "pt") as file:
        said = dict(file.metadata() or {})
    tensors = load_file(path)
    keys = sorted(said) or ["ss_x"]
    key = rng.choice((*keys, "lora_adapter_metadata", "format", "ss_network_module", "modelspec.title"))
    said[key] = rng.choice(
        (
            "",
            "x",
            "[" * 5_000 + "]" * 5_000,
            "9" * 5_000,
            '{"a": ' * 3,
            "\x1b[31m",
            "a\nb",
            "{}",
            "[]",
            "null",
            "-1",
            "1e400",
            LONG,
            '{"a":[1,{"b":2}]}',
        )
    )
    path.unlink()
    save_file(tensors, path, said)
    return f"metadata {key} = {said[key][:40]!r}"


def _damaged_zip(path: Path, rng: random.Random) -> str:
    name, content = rng.choice(sorted(damaged_zips(path.read_bytes()).items()))
    _fresh(path, content)
    return name


def _bomb(path: Path, rng: random.Random) -> str:
    name, code = rng.choice([*BOMBS.items(), *LYING_TENSORS.items()])
    path.unlink()
    write_pickle(path, code, **{"0": b"\0" * 64})
    return name


def _lying_png(path: Path, rng: random.Random) -> str:
    size = rng.choice(((0, 0), (1, 1), (100_000, 100_000), (1 << 31, 1 << 31), (96, 80), (1, 30_000)))
    _fresh(path, png(*size, bits=rng.choice((0, 1, 8, 16, 255)), colour=rng.choice((0, 2, 3, 6, 9))))
    return f"a picture of {size}"


def _lying_npz(path: Path, rng: random.Random) -> str:
    shape = rng.choice(((4, 8, 8), (1 << 40,), (-1, 2), (), (0,), (4, 0, 0), (10**30,)))
    dtype = rng.choice(("<f4", "|O", "<U9", "<f8", "zz", "<c16"))
    path.unlink()
    write_npz(
        path, latents=npy(shape, dtype, b"\0" * 1024), original_size=npy((2,), "<i8", b"\0" * 16), crop_ltrb=npy((4,), "<i8", b"\0" * 32)
    )
    return f"latents of {shape} {dtype}"


def _bind(path: Path) -> None:
    os.mkfifo(path)


ANY: tuple[Spoiler, ...] = (
    _cut, _cut, _bytes_changed, _bytes_changed, _content(b"", "empty"), _content(b"\0" * 100_000, "zeros"),
    _content(b"\xff\xfe" * 50, "no text"), _content(b"<html><body>404</body></html>", "a web page"),
    _content(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a pointer of LFS"),
    _replaced(lambda path: path.mkdir(), "a folder"), _replaced(_bind, "a pipe"),
    _replaced(lambda path: path.symlink_to(path.name), "a loop"), _replaced(lambda path: path.symlink_to("nowhere"), "a link to nowhere"),
    _replaced(lambda path: None, "gone"), _replaced(lambda path: (path.write_bytes(b"x"), path.chmod(0)), "closed"),
)  # fmt: skip
BY_ENDING: dict[str, tuple[Spoiler, ...]] = {
    ".json": (_mangled_json,) * 6 + (_recoded("utf-16"),),
    ".toml": (_mangled_toml,) * 8 + (_recoded("utf-16"), _recoded("utf-8-sig")),
    ".txt": (_mangled_text,) * 3 + (_recoded("utf-16"),),
    ".caption": (_mangled_text,) * 3 + (_recoded("cp1252"),),
    ".safetensors": (_lying_safetensors, _lying_safetensors, _lying_lora, _lying_metadata),
    ".ckpt": (_damaged_zip, _bomb), ".pt": (_damaged_zip, _bomb, _lying_lora),
    ".png": (_lying_png, _lying_png), ".npz": (_lying_npz, _lying_npz),
}  # fmt: skip
