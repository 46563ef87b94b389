"""The script of a text: CLIP's tokenizer has few tokens for letters other than Latin."""

from __future__ import annotations

import re

# Letters of scripts other than Latin, which CLIP's tokenizer has few tokens for; what is between these ranges is Latin, or not letters.
_OTHER_LETTERS = re.compile(
    "[\u0370-\u1cff\u1f00-\u1fff\u2c00-\u2c5f\u2d00-\u2dff\u3041-\u30fa\u30fc-\ua71f\ua800-\uab2f\uab70-\ud7ff\uf900-\ufaff"
    "\ufb13-\ufdff\ufe70-\ufefe\uff66-\uffdc\U00010000-\U0001cfff\U00020000-\U0003ffff]"
)


def not_latin(text: str) -> bool:
    """Whether a text has letters of another script, such as Japanese or Korean, which the tokenizer splits into pieces."""
    return not text.isascii() and _OTHER_LETTERS.search(text) is not None
