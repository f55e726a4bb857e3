"""Writes the numbers of shop_methods: python docs/make_methods.py [--check] [--run OUT].

`--run OUT` keeps what a whole run wrote into OUT/summary.json as experiments/shop_methods/
measured.json. The marked regions of docs/which_method.md and of the README of the experiment come
from that file alone: `<!-- methods: NAME -->` begins one and `<!-- end -->` ends it.
"""

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for `experiments`, which is not in the wheel

from experiments.shop_methods.names import DIRECT, OFFLINE, ONLINE  # noqa: E402

FOLDER = ROOT / "experiments" / "shop_methods"
MEASURED = FOLDER / "measured.json"
GUIDE, README = ROOT / "docs" / "which_method.md", FOLDER / "README.md"
REGION = re.compile(r"(<!-- methods: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
DIGITS, WIDEST, LINE = 5, 80, 118
AXES = ("helpful", "honest", "harmless", "polite", "concise", "fluent")
# What one has, the method, the command, and name -> row of the run.
CHOICES: tuple[tuple[str, str, str, dict[str, str]], ...] = (
    ("good answers", "SFT on them", "`rlhf sft`", {"SFT": "sft"}),
    (
        "pairs, log-probs of a reference",
        "DPO, IPO",
        "`rlhf dpo`, `rlhf ipo`",
        {"DPO": "dpo", "IPO": "ipo"},
    ),
    (
        "pairs, no room for a reference",
        "SimPO, ORPO, CPO",
        "`rlhf simpo`, `rlhf orpo`",
        {"SimPO": "simpo", "ORPO": "orpo", "CPO": "cpo"},
    ),
    (
        "pairs, and how often labels are wrong",
        "[cDPO, robust DPO](dpo_variants.md)",
        "`rlhf preference --loss robust_dpo`",
        {"cDPO": "cdpo", "robust": "robust_dpo"},
    ),
    (
        "pairs, and how sure each label is",
        "DPO on soft labels",
        "`recipes.soft_pairs`",
        {"soft": "soft_dpo"},
    ),
    (
        "answers marked good or bad, a reference",
        "KTO, BCO",
        "`rlhf kto`",
        {"KTO": "kto", "BCO": "bco"},
    ),
    ("rankings", "PRO", "`rlhf pro`", {"PRO": "pro"}),
    (
        "a reward, any sampler of four answers or more",
        "RAFT, SuperHF",
        "`rlhf best-of-n`, `rlhf superhf`",
        {"RAFT": "raft", "SuperHF": "superhf"},
    ),
    (
        "a reward, several answers to a prompt",
        "RLOO, GRPO and kin",
        "`rlhf rloo`, `rlhf grpo`",
        {"RLOO": "rloo", "GRPO": "grpo"},
    ),
    ("a reward, one answer to a prompt", "PPO, with a critic", "`rlhf ppo`", {"PPO": "ppo"}),
    (
        "a reward that is wrong in its middle",
        "PF-PPO, with a filter",
        "`rlhf ppo --filter`",
        {"best and worst": "pf_ppo_worst"},
    ),
    (
        "rewards that differ between prompts",
        "P3O, on two answers",
        "`rlhf p3o`",
        {"P3O": "p3o"},
    ),
    (
        "a judge of two answers, a reference",
        "online DPO, OSP",
        "`rlhf online-dpo --judge`, `rlhf osp`",
        {"online DPO": "online_dpo", "OSP": "osp"},
    ),
    ("several rewards", "DPA: any trade-off", "`rlhf best-of-n --directions`", {}),
    ("a reward, time at inference", "best of n", "`recipes.best_of_n`", {"best of 8": "best_of"}),
)

Rows = Sequence[Mapping[str, Any]]


def kept(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What measured.json has of a summary.json.

    Raises:
      ValueError: not the summary of a whole run.
    """
    numbers = summary["numbers"]
    missing = sorted({*OFFLINE, *ONLINE, *DIRECT} - {*numbers["methods"]})
    if missing:
        raise ValueError(f"not a whole run: {', '.join(missing)} missing")
    names = ("start", "best_of", "methods", "rates", "quality", "tau")
    claims = ("statement", "op", "threshold", "value", "interval", "baseline", "verdict")
    return rounded(
        {
            "minutes": summary["seconds"] / 60,
            "devices": summary["environments"][0]["devices"],
            "jax": summary["environments"][0]["versions"]["jax"],
            "config": {name: summary["config"][name] for name in ("seeds", "offline", "online")},
            **{name: numbers[name] for name in names},
            "claims": [{name: claim[name] for name in claims} for claim in summary["claims"]],
        }
    )


def rounded(value: Any) -> Any:
    """Floats to DIGITS digits, so that the file shows what was measured and no noise."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list) else value


def of(rows: Rows, name: str) -> float:
    """Mean over seeds."""
    return mean(row[name] for row in rows)


def spread(values: Sequence[float]) -> str:
    """Mean, and the lowest and highest of several."""
    ends = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
    return f"{mean(values):.3f}{ends}"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [headers, ["---"] * len(headers), *rows]
    shown = [f"| {' | '.join(cells)} |" for cells in lines]
    return "\n".join([shown[0], "|" + "---|" * len(headers), *shown[2:]])


def ordered(found: Mapping[str, Any]) -> dict[str, Rows]:
    """The methods by league."""
    return {name: found["methods"][name] for name in (*OFFLINE, *ONLINE, *DIRECT)}


def methods_table(found: Mapping[str, Any]) -> str:
    """Gold of each method, what it costs and how far it goes."""
    start = found["start"]
    gold, greedy = (spread([row[name] for row in start]) for name in ("gold", "greedy"))
    rows = [["SFT", "", gold, greedy, "0.500", "0.00", "", ""]]
    for name, each in ordered(found).items():
        rows.append(
            [
                f"{name}, {'offline' if name in OFFLINE else 'online'}",
                f"{found['rates'][name]:g}",
                *(spread([row[key] for row in each]) for key in ("gold", "greedy")),
                f"{of(each, 'win_rate'):.3f}",
                f"{of(each, 'kl'):.2f}",
                f"{of(each, 'tokens') / 1000:.0f}",
                f"{of(each, 'seconds'):.0f}",
            ]
        )
    return table(("method", "rate", "gold", "greedy", "win", "KL", "learned", "s"), rows)


def axes_table(found: Mapping[str, Any]) -> str:
    """Parts of gold, and what else changes in the answers."""
    start = found["start"]
    rows = []
    for name, each in {"SFT": start, **ordered(found)}.items():
        rows.append(
            [
                name,
                *(f"{mean(row['axes'][axis] for row in each):.2f}" for axis in AXES),
                *(f"{of(each, key):.1f}" for key in ("entropy", "length")),
                *(f"{of(each, key):.2f}" for key in ("distinct", "score")),
                f"{of(each, 'forgetting') - of(start, 'forgetting'):+.2f}",
            ]
        )
    return table(("method", *AXES, "entropy", "tokens", "distinct", "RM", "forgets"), rows)


def claims_table(found: Mapping[str, Any]) -> str:
    """What is claimed, what must fail it, and the verdict."""
    rows = []
    for claim in found["claims"]:
        name, value = claim["baseline"]
        ends = [end for end in claim["interval"] or () if isinstance(end, float)]
        shown = f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else ""
        rows.append(
            [
                f"{claim['statement']}; {name} {value:.3f}",
                f"{claim['op']} {claim['threshold']:g}",
                f"{claim['value']:.3g}{shown}",
                claim["verdict"],
            ]
        )
    return table(("claim", "asked", "measured", "verdict"), rows)


def choices_table(found: Mapping[str, Any]) -> str:
    """What to take, with gold and KL of the same run; of one seed alone in italics."""
    rows = []
    for have, method, command, named in CHOICES:
        cells = [have, method, command, ", ".join(cell(found, *each) for each in named.items())]
        for each in cells:
            if len(each) > WIDEST:
                raise ValueError(f"{method}: a cell of {len(each)} characters: {each}")
        rows.append(cells)
    return table(("you have", "method", "command", "gold (KL) at one budget"), rows)


def cell(found: Mapping[str, Any], title: str, name: str) -> str:
    """A method's gold, and its KL."""
    if name == "best_of":
        return f"{title} {mean(found['best_of']):.3f}"
    each = found["methods"][name]
    gold = f"{of(each, 'gold'):.3f}"
    shown = gold if len(each) > 1 else f"*{gold}*"
    return f"{title} {shown} ({of(each, 'kl'):.2f})"


def run_text(found: Mapping[str, Any]) -> str:
    """The run behind the table: its size, machine and minutes, and where all methods begin."""
    labels = min(int(one["pairs"]) for one in found["quality"])
    online, start = found["config"]["online"], found["start"]
    return wrapped(
        f"`python -m experiments run shop_methods`, {found['minutes']:.0f} minutes by the clock on "
        f"two cores that other jobs shared ({found['devices']}, JAX {found['jax']}): the shipped "
        f"policy of the shop, {labels:,} labels or more for each offline method, "
        f"{online['steps'] * online['answers']:,} answers scored by a reward model of the same "
        f"labels for each online one. Means of {found['config']['seeds']} seeds; in italics seed 0 "
        f"alone, where the policy has gold {start[0]['gold']:.3f} at the start; over all seeds "
        f"that is {of(start, 'gold'):.3f}, and of its greedy answers {of(start, 'greedy'):.3f}. KL "
        "is in nats per answer."
    )


def greedy_text(found: Mapping[str, Any]) -> str:
    """What a lower temperature does without training, and how many methods the run ranks."""
    (claim,) = (one for one in found["claims"] if "greedy answers less" in one["statement"])
    ends = ", ".join(f"{-end:.3f}" for end in reversed(claim["interval"]))
    taus = sorted(found["tau"])
    return wrapped(
        "All of this is at temperature 1. Greedy answers of the methods with all seeds have gold "
        f"{-claim['value']:.3f} [{ends}] below those of the start: on this task a lower "
        "temperature wins more than any method, and costs nothing. Compare greedy answers too "
        "(`recipes.at_temperature`) before you believe that a method has taught something. The "
        f"orders of two seeds agree by a Kendall's tau of {taus[0]:.2f} to {taus[-1]:.2f}, so the "
        "table ranks few methods."
    )


def wrapped(text: str) -> str:
    """In lines of the width of the pages."""
    return textwrap.fill(text, LINE, break_long_words=False, break_on_hyphens=False)


PAGES: dict[Path, dict[str, Callable[[Mapping[str, Any]], str]]] = {
    GUIDE: {"choices": choices_table, "run": run_text, "greedy": greedy_text},
    README: {"table": methods_table, "axes": axes_table, "claims": claims_table},
}


def renewed(path: Path, found: Mapping[str, Any]) -> str:
    """A page with new regions.

    Raises:
      ValueError: the page does not have each region once.
    """
    page, regions = path.read_text(), PAGES[path]
    names = [match[2] for match in REGION.finditer(page)]
    if sorted(names) != sorted(regions):
        raise ValueError(f"the regions of {path} must be {sorted(regions)}, got {sorted(names)}")
    return REGION.sub(lambda match: f"{match[1]}\n{regions[match[2]](found)}\n\n{match[3]}", page)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--check", action="store_true", help="write nothing; fail if out of date")
    parser.add_argument("--run", type=Path, help="results of a whole run to keep")
    options = parser.parse_args()
    if options.run:
        found = kept(json.loads((options.run / "summary.json").read_text()))
        MEASURED.write_text(json.dumps(found, indent=1) + "\n")
    found = json.loads(MEASURED.read_text())
    old = [path for path in PAGES if path.read_text() != renewed(path, found)]
    if options.check:
        for path in old:
            print(f"{path} is not what was measured: run python docs/make_methods.py")
        return int(bool(old))
    for path in old:
        path.write_text(renewed(path, found))
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
