"""Texts with something in them that does not belong: markers, other scripts, personal data."""

import re
from collections import Counter
from collections.abc import Callable, Iterator

from rlhf_jax.data.audit.findings import EXAMPLES, Finding, once
from rlhf_jax.data.audit.rows import AuditFile, answers_of, plain_text
from rlhf_jax.data.records import HUMAN, Record, Text

SPECIAL = (
    r"<\|[A-Za-z_ ]{1,30}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<extra_id_\d+>"
)
ROLES = r"^[ \t]*(?:Human|Assistant|### ?(?:Instruction|Response|Human|Assistant|Input)):"
_IN_PROMPTS = re.compile(SPECIAL)
_IN_ANSWERS = re.compile(f"{SPECIAL}|{ROLES}", re.MULTILINE)

PERSONAL = {
    "e-mail addresses": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}"),
    "card numbers": re.compile(r"(?<![\w.-])[2-6]\d(?:[ -]?\d){11,17}(?![\w-])"),
    "IP addresses": re.compile(
        r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?!\.?\w)"
    ),
    "phone numbers": re.compile(
        r"(?<![\w.+-])(?:\+\d{1,3}[ .-]?(?:\(?\d{1,4}\)?[ .-]?){2,4}\d{2,4}"
        r"|(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[.-]\d{4})(?![\w-])"
    ),
}
FAULTS = {
    "replacement characters": re.compile("\ufffd"),
    "UTF-8 read as Latin-1": re.compile("[ÃÂ][\u0080-\u00bf]|â€|ï»¿"),
    "control characters": re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"),
    "invisible characters": re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\ufeff]"),
    "HTML entities": re.compile(r"&(?:amp|lt|gt|quot|nbsp|#\d{1,5}|#x[0-9a-fA-F]{1,4});"),
}
_SCRIPTS = {
    "Latin": re.compile("[A-Za-z\u00c0-\u024f]"),
    "Greek": re.compile("[\u0370-\u03ff]"),
    "Cyrillic": re.compile("[\u0400-\u04ff]"),
    "Hebrew": re.compile("[\u0590-\u05ff]"),
    "Arabic": re.compile("[\u0600-\u06ff]"),
    "Devanagari": re.compile("[\u0900-\u097f]"),
    "Thai": re.compile("[\u0e00-\u0e7f]"),
    "East Asian": re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"),
}
_OTHER = re.compile("[\u0370-\u1fff\u3040-\ud7af]")  # letters of other scripts than Latin
LETTERS = 20  # fewer do not make a script


def template_drift(file: AuditFile) -> Finding:
    """Records with a prompt of another shape than most: text, dialogue, messages, system, tools."""
    shapes = [_shape(entry.record) for entry in file.entries]
    counts = Counter(shapes)
    usual = counts.most_common(1)[0][0] if counts else ""
    other = [x.place for x, shape in zip(file.entries, shapes, strict=True) if shape != usual]
    return Finding(
        "template drift",
        len(other),
        len(shapes),
        places=once(other),
        details=dict(counts.most_common()),
    )


def stray_markers(file: AuditFile) -> Finding:
    """Records with the markers of a chat template in their texts; in answers, also of roles."""

    def found(record: Record) -> Iterator[str]:
        for match in _matches(_IN_PROMPTS, plain_text(record.prompt)):
            yield f"{match} in prompts"
        for answer in answers_of(record):
            yield from _matches(_IN_ANSWERS, plain_text(answer))

    return _counted("stray markers", file, found)


def personal_strings(file: AuditFile) -> Finding:
    """Records with what looks like an address or a number of a person. Counted, never shown."""

    def found(record: Record) -> Iterator[str]:
        for text in _texts(record):
            for name, matches in _personal(text):
                yield from [name] * len(matches)

    return _counted("personal data", file, found)


def encoding_faults(file: AuditFile) -> Finding:
    """Records with characters that a conversion left behind."""

    def found(record: Record) -> Iterator[str]:
        for text in _texts(record):
            for name, pattern in FAULTS.items():
                yield from [name] * len(pattern.findall(text))

    return _counted("encoding faults", file, found)


def foreign_scripts(file: AuditFile) -> Finding:
    """Records with an answer mostly in another script than its prompt, or than the other answer."""

    def found(record: Record) -> Iterator[str]:
        asked = _script(plain_text(record.prompt))
        given = [_script(plain_text(answer)) for answer in answers_of(record)]
        scripts = [script for script in (asked, *given) if script]
        if len(set(scripts)) > 1:
            yield " and ".join(dict.fromkeys(scripts))

    finding = _counted("other scripts", file, found)
    return finding._replace(
        inapplicable="prompts have no answers" if file.kind == "prompts" else ""
    )


def masked(text: str) -> str:
    """The text with every string that looks personal replaced by its kind."""
    for name, matches in _personal(text):
        for match in matches:
            text = text.replace(match, f"[{name}]")
    return text


def _counted(name: str, file: AuditFile, found: Callable[[Record], Iterator[str]]) -> Finding:
    """Records in which something is found; details: how often each kind of it is."""
    counts: Counter[str] = Counter()
    places: list[str] = []
    number = 0
    for place, record in file.entries:
        here = Counter(found(record))
        counts += here
        number += bool(here)
        places += [place] if here else []
    return Finding(
        name,
        number,
        len(file.entries),
        places=once(places),
        details=dict(counts.most_common(2 * EXAMPLES)),
    )


def _matches(pattern: re.Pattern[str], text: str) -> list[str]:
    """Markers in a text; searching for their first characters alone is much faster."""
    if not any(start in text for start in ("<", "[", "Human", "Assistant", "###")):
        return []
    return [match.strip() for match in pattern.findall(text)]


def _personal(text: str) -> Iterator[tuple[str, list[str]]]:
    """Kind and matches; a text without digits and @ has none."""
    digits = any(digit in text for digit in "0123456789")
    for name, pattern in PERSONAL.items():
        if "@" not in text if name == "e-mail addresses" else not digits:
            continue
        matches = pattern.findall(text)
        if name == "card numbers":
            matches = [match for match in matches if luhn(match)]
        if name == "phone numbers":
            matches = [match for match in matches if 8 <= sum(c.isdigit() for c in match) <= 15]
        if matches:
            yield name, matches


def luhn(number: str) -> bool:
    """Whether the digits pass the check of card numbers.

    From the right, every second digit is doubled (its two digits added); the sum divides by 10.
    """
    digits = [int(c) for c in reversed(number) if c.isdigit()]
    doubled = [sum(divmod(2 * d, 10)) for d in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _script(text: str) -> str:
    """The script of most letters; empty where there are too few."""
    if _OTHER.search(text) is None:
        return "Latin" if len(_SCRIPTS["Latin"].findall(text)) >= LETTERS else ""
    counts = {name: len(pattern.findall(text)) for name, pattern in _SCRIPTS.items()}
    name = max(counts, key=lambda each: counts[each])
    return name if counts[name] >= LETTERS else ""


def _texts(record: Record) -> Iterator[str]:
    yield plain_text(record.prompt)
    yield from map(plain_text, answers_of(record))


def _shape(record: Record) -> str:
    """How the prompt of a record is written."""
    prompt: Text = record.prompt
    tools = " with tools" if getattr(record, "tools", ()) else ""
    if isinstance(prompt, str):
        dialogue = prompt.lstrip().startswith(HUMAN.strip())
        kind = "Human: and Assistant: in a text" if dialogue else "text"
        return (kind if prompt.strip() else "no prompt") + tools
    system = " with a system text" if prompt and prompt[0]["role"] == "system" else ""
    return f"messages{system}{tools}"
