"""Choices on a page that hide claims by verdict and kind, without a script: style sheets do it."""

from collections.abc import Sequence

from rlhf_jax.reports.claims import KINDS, Claim

VERDICTS = ("holds", "fails", "undecided")
CHOICES = {"verdict": VERDICTS, "kind": KINDS}
STYLE = """
.filter { margin: 1.2rem 0; }
.filter fieldset { border: 0; padding: 0; margin: .3rem 0; display: flex; flex-wrap: wrap;
  gap: 0 1rem; }
.filter legend { float: left; width: 4.5rem; font-weight: 600; }
.filter label { white-space: nowrap; }
"""


def claim_marks(claims: Sequence[Claim]) -> str:
    """Class names of what holds these claims: the verdict of each, its kind, and both as one."""
    found = {
        name
        for c in claims
        for name in (
            f"verdict-{c.verdict}",
            f"kind-{c.kind}",
            f"verdict-{c.verdict}-kind-{c.kind}",
        )
    }
    return " ".join(["claimed", *sorted(found)])


def claim_filter() -> str:
    """A form, and the rules by which it hides all of class `claimed` without the chosen marks."""
    rows = "".join(
        f"<fieldset><legend>{about}</legend>"
        + "".join(
            f'<label><input type="radio" name="{about}" id="{about}-{name}"'
            f"{' checked' if name == 'all' else ''}> {name}</label> "
            for name in ("all", *names)
        )
        + "</fieldset>"
        for about, names in CHOICES.items()
    )
    return f'<style>{STYLE}{"".join(_rules())}</style>\n<form class="filter">{rows}</form>'


def _rules() -> list[str]:
    """One for each choice, and for each two choices at once."""
    one = {name: f":has(#{name}:checked)" for name in _names("verdict", "kind")}
    both = {
        f"{verdict}-{kind}": one[verdict] + one[kind]
        for verdict in _names("verdict")
        for kind in _names("kind")
    }
    hide = "{ display: none; }"
    return [f"main{chosen} .claimed:not(.{mark}) {hide}\n" for mark, chosen in (one | both).items()]


def _names(*groups: str) -> list[str]:
    return [f"{group}-{name}" for group in groups for name in CHOICES[group]]
