"""Writes docs/losses.md from the docstrings: python docs/make_losses.py [--check]."""

import argparse
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

PAGE = Path(__file__).parent / "losses.md"

# Heading -> modules, in the order of the page.
PARTS = {
    "Direct preference optimisation, pairs with a reference": [
        "losses.preference.pairs",
        "losses.preference.offsets",
        "losses.preference.anchored",
    ],
    "Scores and weights that go into a pairwise loss": [
        "losses.preference.scores",
        "losses.preference.robust",
    ],
    "Reference-free": ["losses.preference.reference_free"],
    "Unpaired labels": ["losses.preference.unpaired"],
    "Rankings": ["losses.preference.ranking"],
    "Segments": ["losses.preference.segments"],
    "Preference games": ["losses.games"],
    "Policy gradients": [
        "losses.policy_gradient",
        "losses.expectile",
        "losses.group_policy_gradient",
        "losses.answer_policy_gradient",
        "losses.pairwise_gradient",
    ],
    "Selected answers": ["losses.supervised", "ops.selection"],
    "Reward models and other feedback": [
        "losses.reward",
        "losses.gaps",
        "losses.users",
        "losses.feedback",
    ],
    "Reward models that ignore a spurious feature": ["losses.robust_reward", "ops.environments"],
    "Contrastive terms of reward models": ["losses.contrastive", "ops.features"],
    "Links: losses of one margin": ["losses.links"],
    "Advantages of groups": ["ops.groups"],
    "Advantages of turns": ["ops.turns"],
    "Rewards of tries and of operations": ["ops.retries", "ops.operations"],
    "Returns, ensembles, gradients of the KL": ["ops.returns", "ops.ensembles", "ops.kl"],
    "Gaussians of a latent or an action": ["ops.gaussians"],
    "Averages over tokens and answers": ["ops.masking"],
}
SECTIONS = ("Args", "Returns", "Raises", "Needs", "Reduces to", "Reference", "Departs")
REQUIRED = ("name", "formula", "Needs")
HEAD = """# Objectives

One row per function, made from the docstrings by `python docs/make_losses.py`. A loss takes arrays
and returns one value per example (or per step), unreduced; how they are averaged is a separate
choice: the last table. Losses are imported from `rlhf_jax.losses`, links from its module `links`,
estimators and averages from `rlhf_jax.ops`. A module says the shapes and ranges that its functions
share, a docstring the rest and where it departs from the paper. A keyword out of its range or a
mask that is not bool raises an error with its name at trace time; traced numbers are not checked.

Symbols: y_w and y_l are the chosen and the rejected answer; u = log pi - log pi_ref is a log-ratio,
D = u_w - u_l; z is a margin; a = log pi(y) / |y| is a mean log-prob; rho = pi / pi_old; A is an
advantage, R or r a reward; sg is stop-gradient.
"""


def functions(module: str) -> Iterator[tuple[str, Callable]]:
    """(name, function) of every public function a module defines, in the order of the file."""
    members = vars(importlib.import_module(f"rlhf_jax.{module}"))
    for name, member in members.items():
        own = getattr(member, "__module__", None) == f"rlhf_jax.{module}"
        if inspect.isfunction(member) and own and not name.startswith("_"):
            yield name, member


def sections(doc: str) -> dict[str, str]:
    """The named sections of a docstring, each on one line, and its first two blocks."""
    parts: dict[str, list[str]] = {"name": [], "formula": []}
    current = "name"
    for line in doc.splitlines():
        match = re.match(rf"({'|'.join(SECTIONS)}):(.*)", line)
        if match:
            current, line = match.groups()
        elif current == "name" and not line:
            current = "formula"
            continue
        elif current == "formula" and not line and parts["formula"]:
            current = "prose"
        parts.setdefault(current, []).append(line.strip())
    return {name: " ".join(line for line in lines if line) for name, lines in parts.items()}


def shared_needs(module: str) -> dict[str, str]:
    """The section `Needs` of a module's docstring, for functions without one of their own."""
    found = sections(inspect.getdoc(importlib.import_module(f"rlhf_jax.{module}")) or "")
    return {name: text for name, text in found.items() if name == "Needs"}


def is_listed(module: str, found: dict[str, str]) -> bool:
    """Every function of `losses`; of `ops`, the estimators, which say what they need."""
    return module.startswith("losses.") or "Needs" in found


def missing(name: str, found: dict[str, str]) -> list[str]:
    """What the docstring of an objective lacks, one line each."""
    return [f"{name}: its docstring has no {part!r}" for part in REQUIRED if not found.get(part)]


def cell(text: str) -> str:
    """Text that a table cell can hold, with arXiv numbers as links."""
    text = text.replace("|", "\\|")
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[\1](https://arxiv.org/abs/\1)", text)


def row(module: str, name: str, found: dict[str, str]) -> str:
    """One objective as a row of its table."""
    cells = (
        found["name"].rstrip("."),
        f"`` {found['formula'].rstrip('.')} ``",
        found["Needs"].rstrip("."),
        found.get("Reduces to", "").rstrip("."),
        found.get("Reference", "").rstrip("."),
        f"`{module}.{name}`",
    )
    return f"| {' | '.join(cell(text) for text in cells)} |"


def page() -> str:
    """The whole page. Raises ValueError naming every docstring that lacks a section."""
    lines, wrong, count = [], [], 0
    for heading, modules in PARTS.items():
        lines += ["", f"## {heading}", ""]
        lines += ["| name | formula | needs | reduces to | paper | function |"]
        lines += ["|---|---|---|---|---|---|"]
        for module in modules:
            needs = shared_needs(module)
            for name, function in functions(module):
                found = sections(inspect.getdoc(function) or "")
                if not is_listed(module, found):
                    continue
                found = needs | found
                lacks = missing(f"{module}.{name}", found)
                wrong += lacks
                count += 1
                lines += [] if lacks else [row(module, name, found)]
    if wrong:
        raise ValueError("\n".join(wrong))
    return f"{HEAD}\n{count} functions.\n" + "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if out of date")
    if parser.parse_args().check:
        if PAGE.exists() and PAGE.read_text() == page():
            return 0
        print(f"{PAGE} is not what the docstrings say: run python docs/make_losses.py")
        return 1
    PAGE.write_text(page())
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
