"""Text that others wrote, safe to print and to show."""

import re
import unicodedata

# Joiners within words and emoji are category Cf as well, and stay.
KEPT = "\n\t\u200c\u200d"


def visible(text: str) -> str:
    """Text with its control characters spelt out, `\\x1b` and `\\u202e`, but line breaks and tabs.

    An escape sequence can recolour, retitle or overwrite a terminal, and a change of direction can
    turn a number around in a page.
    """
    return re.sub(r"[^ -~]", lambda found: _spelt(found[0]), text)


def _spelt(character: str) -> str:
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    if hidden and character not in KEPT:
        return character.encode("unicode_escape").decode("ascii")
    return character
