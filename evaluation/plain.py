"""Texts of others as one line that any terminal and any log can take."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 2000
"""Characters of a line; a longer one loses its middle."""

KEPT = "\u00ad\u200b\u200c\u200d"
"""Formatting characters that words of some languages are written with, and that move nothing."""

_BREAKS = re.compile(r"[\t\n\v\f\r\x1c-\x1f\x85\u2028\u2029]+")


def plain(text: str, longest: int = LONGEST) -> str:
    r"""The text in one line, without what a terminal would act on.

    Line breaks and tabs become a space; control characters, halves of surrogate pairs and marks
    that turn the direction of writing their escapes, such as `\x1b`.

    >>> plain("a\nb \x1b[31mred")
    'a b \\x1b[31mred'
    """
    if len(text) > longest:
        half = longest // 2 - 3
        text = f"{text[:half]} ... {text[-half:]}"
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_escaped, _BREAKS.sub(" ", text)))


def _escaped(letter: str) -> str:
    if letter in KEPT or unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Co", "Cn"):
        return letter
    return letter.encode("unicode_escape").decode("ascii")
