"""Text of unknown origin, made safe to print and to show."""

import re
import unicodedata

# Joiners within words and emoji are category Cf as well, and stay.
KEPT = "\n\t\u200c\u200d"


def visible(text: str) -> str:
    """Text with control characters spelt out (`\\x1b`, `\\u202e`), except line breaks and tabs.

    Escape sequences can recolour, retitle or overwrite a terminal, and a change of direction can
    reverse a number on a page.
    """
    return re.sub(r"[^ -~]", lambda found: _spelt(found[0]), text)


def _spelt(character: str) -> str:
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    if hidden and character not in KEPT:
        return character.encode("unicode_escape").decode("ascii")
    return character
