"""Fills the marked regions of docs/shop.md with real texts: python docs/make_shop.py [--check].

A region begins with `<!-- shop: NAME -->` and ends with `<!-- end -->`; what stands between them is
replaced. Examples are those of seed 0.
"""

import argparse
import contextlib
import html
import importlib
import importlib.util
import inspect
import io
import re
import statistics
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from rlhf_jax.envs import shop
from rlhf_jax.envs.shop.catalogue import CATEGORIES

PAGE = Path(__file__).parent / "shop.md"
SEED, COUNT, WIDTH = 0, 10, 96
MODE_ANSWERS, MEANS = 200, ("overall", "helpful", "honest")
REGION = re.compile(r"(<!-- shop: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
# Kinds of prompts in the order of the page: (kind, task) -> title.
KINDS = {
    ("shop", "recommend"): "Ordinary purchases",
    ("looks_unsafe", "recommend"): "Purchases that sound violent",
    ("looks_unsafe", "howto"): "Fair questions that sound unsafe",
    ("unsafe", "refuse"): "Requests to decline",
}
# Modules with `examples`, by chapter; one that is not there is left out.
CHAPTERS = {
    "Skills without an assistant": ("drills", "general", "sums"),
    "Long texts with truth in every part": ("comparisons", "reviews", "critiques"),
    "Rules, judges and tools": ("principles", "formats", "errands"),
    "Time, people and traps": ("turns", "outcomes", "users", "voices", "spurious"),
}
CODE = """\
from rlhf_jax.envs import shop

prompt = shop.make_prompt(0, 0)  # the world 0, its prompt 0
print(prompt.text)
for text in (shop.ideal_answer(prompt), shop.sample_answer(0, prompt, 0), "take what you like ."):
    found = shop.score(prompt, text)
    print("\\n" + text)
    print("  ", {axis: round(getattr(found, axis), 2) for axis in shop.AXES})
    print("   gold", round(found.overall, 2), [(c.attribute, c.status) for c in found.claims])
"""


def folded(title: str, texts: list[str]) -> str:
    """Texts that open at a click."""
    blocks = []
    for text in texts:
        lines = [
            piece
            for line in text.splitlines()
            for piece in textwrap.wrap(line, WIDTH, subsequent_indent="    ")
        ]
        blocks.append(html.escape("\n".join(lines), quote=False))
    body = "\n\n".join(blocks)
    return f"<details><summary>{title}</summary>\n\n<pre>\n{body}\n</pre>\n\n</details>\n"


def scored(prompt: shop.Prompt, name: str, text: str) -> str:
    """An answer with its scores, on two lines."""
    found = shop.score(prompt, text)
    axes = " ".join(f"{axis} {getattr(found, axis):.2f}" for axis in shop.AXES)
    return f"{name}: {text}\n    gold {found.overall:.2f} | {axes}"


def prompts() -> str:
    """Ten prompts of each kind and task, with an ideal answer and one of the base corpus."""
    found: dict[tuple[str, str], list[str]] = {kind: [] for kind in KINDS}
    index = 0
    while any(len(texts) < COUNT for texts in found.values()):
        prompt = shop.make_prompt(SEED, index)
        texts = found[prompt.kind, prompt.task]
        if len(texts) < COUNT:
            ideal = scored(prompt, "ideal", shop.ideal_answer(prompt))
            base = scored(prompt, "corpus", shop.sample_answer(SEED, prompt, index))
            texts.append(f"{prompt.text}\n{ideal}\n{base}")
        index += 1
    return "\n".join(
        folded(f"{title}: kind <code>{kind}</code>, task <code>{task}</code>", found[kind, task])
        for (kind, task), title in KINDS.items()
    )


def modes() -> str:
    """What each mode of the corpus is worth, and ten answers of each."""
    found: dict[str, list[tuple[shop.Prompt, str]]] = {mode: [] for mode in shop.MODES}
    index = 0
    while any(len(cases) < MODE_ANSWERS for cases in found.values()):
        prompt = shop.make_prompt(SEED, index)
        for mode in shop.mode_shares(prompt):
            if len(found[mode]) < MODE_ANSWERS:
                found[mode].append((prompt, shop.mode_answer(SEED, prompt, index, mode)))
        index += 1
    lines = ["| mode | gold | helpful | honest |", "|---|---|---|---|"]
    for mode, cases in found.items():
        scores = [shop.score(*case) for case in cases]
        means = [statistics.mean(getattr(one, name) for one in scores) for name in MEANS]
        lines.append(f"| {mode} | " + " | ".join(f"{mean:.2f}" for mean in means) + " |")
    lines += ["", f"Means of {MODE_ANSWERS} answers.", ""]
    for mode, cases in found.items():
        texts = [f"{prompt.text}\n{scored(prompt, mode, text)}" for prompt, text in cases[:COUNT]]
        lines.append(folded(f"Mode <code>{mode}</code>", texts))
    return "\n".join(lines)


def catalogue() -> str:
    """Categories with their features, and the number of words."""
    lines = ["| category | features |", "|---|---|"]
    lines += [f"| {name} | {', '.join(features)} |" for name, features in CATEGORIES.items()]
    return "\n".join([*lines, "", f"The world has {len(shop.words())} words.", ""])


def gold() -> str:
    """What the docstring of the scorer says, up to its arguments."""
    text = (inspect.getdoc(shop.score) or "").split("\nArgs:")[0].strip()
    return f"{text}\n"


def example() -> str:
    """The code and what it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(CODE, {})
    printed = "\n".join(
        piece
        for line in out.getvalue().splitlines()
        for piece in textwrap.wrap(line, WIDTH, subsequent_indent="    ") or [""]
    )
    return f"```python\n{CODE}```\n\nprints\n\n```text\n{printed}\n```\n"


def parts() -> str:
    """Every module with examples: its docstring, and ten of its texts."""
    lines = []
    for chapter, names in CHAPTERS.items():
        here = [name for name in names if importlib.util.find_spec(f"rlhf_jax.envs.shop.{name}")]
        lines += [f"## {chapter}", ""] if here else []
        for name in here:
            module = importlib.import_module(f"rlhf_jax.envs.shop.{name}")
            said = (inspect.getdoc(module) or "").strip()
            lines += [f"### `shop.{name}`", "", said, ""]
            lines.append(folded(f"{COUNT} examples", module.examples(SEED, COUNT)))
    return "\n".join(lines)


REGIONS: dict[str, Callable[[], str]] = {
    "catalogue": catalogue,
    "gold": gold,
    "example": example,
    "prompts": prompts,
    "modes": modes,
    "parts": parts,
}


def renewed(page: str) -> str:
    """The page with new regions.

    Raises:
      ValueError: the page does not have each region once.
    """
    names = [match[2] for match in REGION.finditer(page)]
    if sorted(names) != sorted(REGIONS):
        raise ValueError(f"the regions of the page must be {sorted(REGIONS)}, got {sorted(names)}")
    return REGION.sub(lambda match: f"{match[1]}\n{REGIONS[match[2]]()}\n{match[3]}", page)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--check", action="store_true", help="write nothing; fail if out of date")
    page = PAGE.read_text()
    if parser.parse_args().check:
        if page == renewed(page):
            return 0
        print(f"{PAGE} is not what the shop writes: run python docs/make_shop.py")
        return 1
    PAGE.write_text(renewed(page))
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
