"""Bias and spread of every KL, advantage and return estimator: one page, one figure.

    python -m benchmarks.estimators            # writes docs/estimators.md and docs/estimators.png
    python -m benchmarks.estimators --check    # exit code 1 if docs/estimators.md would change

Nothing is random: `benchmarks.enumeration` lists every outcome of small worlds in float64.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from benchmarks import enumeration
from benchmarks.enumeration import Moments
from rlhf_jax.ops import kl
from rlhf_jax.reports import looks, plots

DOCS = Path(__file__).parent.parent / "docs"
EXACT = 1e-10  # a relative bias below this is rounding
DISTANCES = (0.1, 1.0, 3.0)
SIZES = (2, 4, 16)
LAMBDAS = (0.0, 0.5, 0.95, 1.0)
CLIPS = (None, 1.0, 2.0, np.inf)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")

KL_VALUES = {
    "`k1`": (kl.k1, False),
    "`k2`": (kl.k2, False),
    "`k3`": (kl.k3, False),
    "`forward_kl_surrogate`": (kl.forward_kl_surrogate, True),
}
KL_GRADIENTS = {
    "`reverse_kl_surrogate`": (kl.reverse_kl_surrogate, False),
    "`score_function_kl_surrogate`": (kl.score_function_kl_surrogate, False),
    "`k1`, differentiated": (kl.k1, False),
    "`k2`, differentiated": (kl.k2, False),
    "`k3`, differentiated": (kl.k3, False),
    "`forward_kl_surrogate`": (kl.forward_kl_surrogate, True),
    "`k3`, differentiated, as the forward one": (kl.k3, True),
}

PAGE = """# Estimators: what is unbiased, and at what spread

A page made by a program; do not edit it. Written by `python -m benchmarks.estimators`, held
against the code by `python -m benchmarks.estimators --check`.

Every number is exact. The worlds are so small that each outcome, and each group of K answers, can
be listed with its probability (`benchmarks/enumeration.py`), so that means and variances are sums
and not averages of draws; float64 throughout. **Bias** is the mean of the estimate minus what it
estimates; for a gradient, the norm of that difference. **Spread** is the standard deviation of
one estimate; for a gradient, the root of the summed variances. Both are divided by the size of
what is estimated, so a bias of 0.1 is 10% of it, and a bias of 0 is one below {exact:.0e}.
**Cosine** is that between the mean estimate and the exact gradient: at 1 the bias is a matter of
step size only.

![Bias and spread of the estimators](estimators.png)

## In short

{summary}

## KL, the value

One answer drawn from pi, five to choose from. pi moves away from pi_ref towards the answer that
pi_ref finds the rarest; the columns stand at KL(pi || pi_ref) = {kls}.

{kl_values}

## KL, the gradient

The gradient of the loss at that one answer, with respect to the logits of pi. The first five rows
are held against the gradient of KL(pi || pi_ref), the others against that of KL(pi_ref || pi).

{kl_gradients}

## KL over an answer of several tokens

Answers of three tokens over two letters; the target is the KL between the laws of whole answers,
{answer_kl} nats. Its value is the sum of the KL of each step, so token estimates can be added. Its
gradient is not the sum of the steps' gradients: pi also moves the prefixes that are reached.

{answer_values}

{answer_gradients}

## Advantages from a group of answers

The policy gradient of the expected score, averaged over two prompts whose scores differ in level
and in scale, K answers drawn for each. ReMax spends one more answer, the greedy one.

{groups}

## Returns and advantages along a trajectory

Three steps with a reward each, no discount, on-policy. The return is that of the first step, held
against the value of pi there; the gradient is that of the whole trajectory. "Wrong" values are
off by up to 0.6 (the value of the first state is {value}).

{gae}

## V-trace: trajectories of another policy

The same world, with trajectories of another policy mu. The target is that of the first step. The
gradient is that with respect to the logits of the first step: further on, the states are those
that mu reaches, and no clip of V-trace repairs this. All three ratios are clipped alike.

{vtrace}

The last row is held against the value of the policy proportional to min(mu, pi), with the right
values of that policy: the fixed point of V-trace at rho_clip = 1.
"""

SUMMARY = """- **KL, value.** `k1` and `k3` are unbiased, `k2` is not. Near pi_ref the spread of
  `k3` is far below that of `k1`; far away its ratio makes it the worst of the three.
- **KL, gradient.** Use `reverse_kl_surrogate`: it logs as `k3` and pulls as `k2`, whose gradient is
  exact in the mean. A loss of `k1` does nothing in the mean (bias 1: all of the gradient is
  missing). A loss of `k3`, as in GRPO, minimises the *forward* KL.
- **Several tokens.** Any KL loss summed over single tokens, the exact one included, gives a partial
  gradient. Summed log-probs, or k1 summed from each token to the end, give all of it.
- **Groups.** No baseline, a baseline that is exact, of the other answers (RLOO) or of the greedy
  answer (ReMax): unbiased. Dr. GRPO's gradient is (K - 1) / K of RLOO's, draw by draw: shorter, not
  turned, and with the same signal to noise. GRPO turns it for good, whatever K: prompts whose
  scores differ little weigh more. Batch whitening turns it less, and not at all as K grows.
- **GAE.** With right values every lambda is unbiased and a small one has the smaller spread. With
  wrong values only lambda = 1 is unbiased.
- **V-trace.** Without clips it is unbiased whatever the values; each clip buys less spread with
  bias, towards the value of a policy between mu and pi."""


def number(x: float) -> str:
    """Four digits; 0 for what rounding alone makes."""
    return "0" if abs(x) < EXACT else f"{x:.4g}"


def unbiased(found: Iterable[Moments]) -> str:
    """Whether all of them are."""
    return "yes" if all(abs(one.bias) < EXACT for one in found) else "no"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left and the others to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def _columns(name: str, found: Sequence[Moments], *, cosine: int | None = None) -> list[str]:
    """Name, verdict, every bias, every spread, and the cosine of one of them if asked for."""
    cells = [name, unbiased(found), *(number(one.bias) for one in found)]
    cells += [number(one.std) for one in found]
    return cells if cosine is None else [*cells, number(found[cosine].cosine)]


def kl_table(estimators: Mapping, measure: Callable, *, cosine: bool) -> str:
    """Rows of one-step estimators at each distance."""
    worlds = [enumeration.one_step(distance) for distance in DISTANCES]
    places = [number(float(world.exact()[0])) for world in worlds]
    head = ["estimator", "unbiased", *(f"bias at {x}" for x in places)]
    head += [f"spread at {x}" for x in places]
    rows = []
    for name, (estimator, forward) in estimators.items():
        found = [measure(world, estimator, forward=forward) for world in worlds]
        rows.append(_columns(name, found, cosine=1 if cosine else None))
    return table([*head, f"cosine at {places[1]}"] if cosine else head, rows)


def answer_table(estimators: Mapping, measure: Callable, kind: str) -> str:
    """Rows of estimators on answers of several tokens."""
    head = [kind, "unbiased", "bias", "spread"]
    head += ["cosine"] if kind == "gradient" else []
    cosine = 0 if kind == "gradient" else None
    rows = [_columns(name, [measure(one)], cosine=cosine) for name, one in estimators.items()]
    return table(head, rows)


def group_table() -> str:
    """Rows of advantage estimators at each group size."""
    head = ["advantage", "unbiased", *(f"bias, K={k}" for k in SIZES)]
    head += [*(f"spread, K={k}" for k in SIZES), *(f"cosine, K={k}" for k in SIZES)]
    sizes = [enumeration.group_moments(size) for size in SIZES]
    rows = []
    for name in enumeration.ADVANTAGES:
        found = [moments[name] for moments in sizes]
        rows.append([*_columns(name, found), *(number(one.cosine) for one in found)])
    return table(head, rows)


def _return_row(name: str, found: tuple[Moments, Moments]) -> list[str]:
    value, grad = found
    cells = [number(x) for x in (value.bias, value.std, grad.bias, grad.std)]
    return [name, unbiased([value]), *cells[:2], unbiased([grad]), *cells[2:]]


RETURN_HEAD = ["unbiased", "bias", "spread", "gradient unbiased", "its bias", "its spread"]


def gae_table() -> str:
    """Rows of lambdas, for right, wrong and no values."""
    rows = []
    for kind in ("right", "wrong", "none"):
        for gae_lambda in LAMBDAS:
            found = enumeration.gae_moments(kind, gae_lambda)
            rows.append(_return_row(f"values {kind}, lambda = {gae_lambda:g}", found))
    return table(["`gae`, `lambda_returns`", *RETURN_HEAD], rows)


def vtrace_table() -> str:
    """Rows of clips, for right and wrong values, and the fixed point."""
    rows = []
    for kind in ("right", "wrong"):
        for clip in CLIPS:
            name = "no correction" if clip is None else f"clips {clip:g}"
            found = enumeration.vtrace_moments(kind, clip)
            rows.append(_return_row(f"values {kind}, {name}", found))
    found = enumeration.vtrace_moments("right", 1.0, target="clipped")
    rows.append([*_return_row("fixed point, clips 1", found)[:4], "", "", ""])
    return table(["`vtrace`", *RETURN_HEAD], rows)


def page() -> str:
    """The whole of docs/estimators.md."""
    kls = [number(float(enumeration.one_step(x).exact()[0])) for x in DISTANCES]
    logits = jnp.asarray(enumeration.TREE_LOGITS)
    ref_logits = jnp.asarray(enumeration.TREE_REF_LOGITS)
    return PAGE.format(
        exact=EXACT,
        summary=SUMMARY,
        kls=f"{', '.join(kls[:-1])} and {kls[-1]} nats",
        kl_values=kl_table(KL_VALUES, enumeration.value_moments, cosine=False),
        kl_gradients=kl_table(KL_GRADIENTS, enumeration.gradient_moments, cosine=True),
        answer_kl=number(float(enumeration.answer_kl(logits, ref_logits))),
        answer_values=answer_table(
            enumeration.ANSWER_VALUES, enumeration.answer_value_moments, "value"
        ),
        answer_gradients=answer_table(
            enumeration.ANSWER_GRADIENTS, enumeration.answer_gradient_moments, "gradient"
        ),
        groups=group_table(),
        value=number(float(enumeration.tree_values(logits)[0])),
        gae=gae_table(),
        vtrace=vtrace_table(),
    )


Curves = dict[str, tuple[Sequence[float], list[Moments]]]


def kl_curves(estimators: Mapping, measure: Callable) -> Curves:
    """Moments over the distance between pi and pi_ref, in nats; equal curves stand once."""
    worlds = [enumeration.one_step(x) for x in np.geomspace(0.1, 4.0, 13)]
    places = [float(world.exact()[0]) for world in worlds]
    names: dict[str, list[str]] = {}
    curves = {}
    for name, (one, forward) in estimators.items():
        if not forward:
            found = [measure(world, one) for world in worlds]
            shape = str([f"{m.bias:.6f} {m.std:.6f}" for m in found])
            names.setdefault(shape, []).append(name.replace("`", ""))
            curves[shape] = found
    return {"\n".join(names[shape]): (places, found) for shape, found in curves.items()}


def group_curves() -> Curves:
    """Moments over the group size."""
    sizes = (2, 3, 4, 6, 8, 12, 16)
    found = [enumeration.group_moments(size) for size in sizes]
    return {name: (sizes, [moments[name] for moments in found]) for name in enumeration.ADVANTAGES}


def gae_curves() -> Curves:
    """Moments of the policy gradient over lambda."""
    lambdas = [float(x) for x in np.linspace(0.0, 1.0, 11)]
    names = {"right values": "right", "wrong values": "wrong", "no values (zero)": "none"}
    return {
        name: (lambdas, [enumeration.gae_moments(kind, x)[1] for x in lambdas])
        for name, kind in names.items()
    }


def draw() -> Figure:
    """Four rows of two plots: bias on the left, spread on the right."""
    nats = "KL(pi || pi_ref), nats"
    rows = [
        ("KL, the value", nats, kl_curves(KL_VALUES, enumeration.value_moments)),
        ("KL, the gradient", nats, kl_curves(KL_GRADIENTS, enumeration.gradient_moments)),
        ("Group advantages, the policy gradient", "answers per prompt, K", group_curves()),
        ("GAE, the policy gradient", "lambda", gae_curves()),
    ]
    with matplotlib.rc_context(plots.STYLE):
        layout = ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.08)
        figure = Figure(figsize=(11, 12), layout=layout, facecolor="white")
        grid = figure.subplots(len(rows), 2)
        for (title, x_label, curves), (left, right) in zip(rows, grid, strict=True):
            _panel(left, curves, "bias", x_label)
            _panel(right, curves, "std", x_label)
            left.set_title(title, loc="left", fontweight="bold", pad=10)
            right.legend(loc="center left", bbox_to_anchor=(1.03, 0.5), frameon=False, fontsize=9)
    return figure


def _panel(axes, curves: Curves, field: str, x_label: str) -> None:
    """One quantity of every estimator in a row; the bias of the unbiased is the zero line."""
    for (name, (x, found)), look in zip(curves.items(), _looks(), strict=False):
        exact = unbiased(found) == "yes"
        if exact and field == "bias":
            continue
        y = [getattr(one, field) for one in found]
        label = "\n".join(f"{one} (unbiased)" for one in name.splitlines()) if exact else name
        axes.plot(x, y, label=label, **look)
    y_label = "bias" if field == "bias" else "standard deviation"
    axes.set(xlabel=x_label, ylabel=f"{y_label} / exact")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color=plots.PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    if field == "bias":
        axes.axhline(0.0, color="#777777", linewidth=1, linestyle=(0, (2, 2)))
    if x_label == "lambda":
        axes.set_ylim(bottom=None if field == "bias" else 0.0)
        return
    axes.set_xscale("log")
    ticks = (2, 4, 8, 16) if "K" in x_label.split() else (0.002, 0.01, 0.05, 0.2, 1.0)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    if field == "std":
        axes.set_yscale("log")
        ticks = [tick for tick in (0.25, 0.5, 1, 2, 4, 8, 16, 32) if _within(axes, tick)]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_yticks([], minor=True)


def _within(axes, tick: float) -> bool:
    low, high = axes.get_ylim()
    return low <= tick <= high


def _looks() -> Iterable[dict]:
    """Colour, line and mark of the n-th curve of a panel."""
    for i, colour in enumerate((*looks.COLOURS, looks.GREY)):
        yield {
            "color": colour,
            "linestyle": looks.LINES[i % len(looks.LINES)],
            "marker": (*looks.MARKERS, "*")[i],
            "markersize": 4.5,
            "linewidth": 1.4,
        }


def difference(old: str, new: str) -> str:
    """The first line where words differ, or a number by more than 0.5%; empty if there is none."""
    old_lines, new_lines = old.splitlines(), new.splitlines()
    for i in range(max(len(old_lines), len(new_lines))):
        pair = [lines[i] if i < len(lines) else "" for lines in (old_lines, new_lines)]
        words = [NUMBER.sub("#", line) for line in pair]
        numbers = [[float(x) for x in NUMBER.findall(line)] for line in pair]
        if words[0] != words[1] or not np.allclose(*numbers, rtol=0.005, atol=0.0):
            return f"line {i + 1}: file has {pair[0]!r}, code gives {pair[1]!r}"
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes or checks the page; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if it would change")
    options = parser.parse_args(arguments)
    path = DOCS / "estimators.md"
    with jax.enable_x64(True):
        made = page()
        if options.check:
            found = difference(path.read_text() if path.exists() else "", made)
            if found:
                print(f"{path} is not what python -m benchmarks.estimators writes; {found}")
            return 1 if found else 0
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made)
        image = path.with_suffix(".png")
        image.write_bytes(plots.png_bytes(draw()))
    print(f"wrote {path} and {image}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
