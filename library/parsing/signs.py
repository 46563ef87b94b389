"""What the characters of a text are: valid at all, and of which script."""

from __future__ import annotations

import re

HALF_PAIR = "half of a surrogate pair (\\ud800 to \\udfff), which is not text"
_HALF_SIGN = re.compile("[\ud800-\udfff]")  # an unpaired UTF-16 surrogate, which no encoding can write
# Letters of scripts other than Latin, which CLIP's tokenizer has few tokens for; what is between these ranges is Latin, or not letters.
_OTHER_LETTERS = re.compile(
    "[\u0370-\u1cff\u1f00-\u1fff\u2c00-\u2c5f\u2d00-\u2dff\u3041-\u30fa\u30fc-\ua71f\ua800-\uab2f\uab70-\ud7ff\uf900-\ufaff"
    "\ufb13-\ufdff\ufe70-\ufefe\uff66-\uffdc\U00010000-\U0001cfff\U00020000-\U0003ffff]"
)


def not_latin(text: str) -> bool:
    """Whether a text has letters of another script, such as Japanese or Korean, which the tokenizer splits into pieces."""
    return not text.isascii() and _OTHER_LETTERS.search(text) is not None


def is_text(value: object) -> bool:
    """Whether the value is a text that can be written to a file and tokenized."""
    return isinstance(value, str) and _HALF_SIGN.search(value) is None
