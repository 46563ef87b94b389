"""Colour profiles as the ICC specification lays them out, made of nothing but numbers, for the tests of what is done about them."""

from __future__ import annotations

import struct

import numpy as np

D50 = (0.9642, 1.0, 0.8249)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
D65 = (0.3127, 0.3290)
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))


def matrix_of(primaries: tuple[tuple[float, float], ...], white: tuple[float, float] = D65) -> np.ndarray:
    """Linear RGB → XYZ under D50, adapted after Bradford (ICC.1:2022, annex E)."""
    xyz = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    point = np.array([white[0] / white[1], 1.0, (1 - sum(white)) / white[1]])
    rgb = xyz * np.linalg.solve(xyz, point)
    scale = (BRADFORD @ D50) / (BRADFORD @ point)
    return np.linalg.inv(BRADFORD) @ np.diag(scale) @ BRADFORD @ rgb


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(values: tuple[float, ...] | np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def curve(gamma: float | str) -> bytes:
    """A curve of one exponent, or sRGB's own."""
    if gamma == "sRGB":
        return b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + b"".join(map(_fixed, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)))
    if gamma == 1:
        return b"curv\0\0\0\0" + struct.pack(">I", 0)
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(float(gamma) * 256)) + b"\0\0"


def profile(tags: dict[str, bytes], space: bytes, kind: bytes = b"mntr", pcs: bytes = b"XYZ ", version: int = 4) -> bytes:
    place, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        data += b"\0" * (-len(data) % 4)
        table += name.encode() + struct.pack(">II", place + len(body), len(data))
        body += data
    size = place + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", version << 24, kind, space, pcs) + struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    head += b"acsp" + b"\0" * 28 + b"".join(map(_fixed, D50)) + b"\0" * 48
    return head + struct.pack(">I", len(tags)) + table + body


def rgb_profile(primaries: tuple[tuple[float, float], ...], gamma: float | str) -> bytes:
    matrix = matrix_of(primaries)
    columns = {f"{name}XYZ": _xyz(matrix[:, number]) for number, name in enumerate("rgb")}
    return profile({"wtpt": _xyz(D50), **columns, **{f"{name}TRC": curve(gamma) for name in "rgb"}}, b"RGB ")


def grey_profile(gamma: float | str) -> bytes:
    return profile({"wtpt": _xyz(D50), "kTRC": curve(gamma)}, b"GRAY")


def cmyk_profile() -> bytes:
    """A press whose inks make L* fall in a straight line from 100 to 20, without any colour."""
    corners = np.array([[c, m, y, k] for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)])
    light = 100 - 20 * corners.sum(axis=1)
    table = np.stack([light * 2.55, np.full(16, 128), np.full(16, 128)], axis=1).round().clip(0, 255).astype(np.uint8)
    ramp = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + b"".join(map(_fixed, np.eye(3).ravel())) + ramp * 4 + table.tobytes() + ramp * 3
    return profile({"wtpt": _xyz(D50), "A2B0": lut}, b"CMYK", b"prtr", b"Lab ", 2)


def stored(colour: tuple[float, ...], primaries: tuple[tuple[float, float], ...], gamma: float | str) -> np.ndarray:
    """What an sRGB colour (0…255) is in another space, 0…1, computed without any colour management library."""
    linear = np.array([value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in np.array(colour) / 255])
    there = (np.linalg.inv(matrix_of(primaries)) @ matrix_of(SRGB) @ linear).clip(0, 1)
    if gamma == "sRGB":
        return np.where(there <= 0.0031308, there * 12.92, 1.055 * there ** (1 / 2.4) - 0.055)
    return there ** (1 / float(gamma))
