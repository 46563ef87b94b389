"""What is done about the colour profile of an image, as headers, records and the conversion name it."""

from __future__ import annotations

NONE = ""  # there is none, or it is sRGB's own
CONVERTED = "converted"  # to sRGB
UNUSABLE = "unusable"  # the numbers are taken for sRGB
