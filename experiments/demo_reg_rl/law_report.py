"""What the law is held to, its table, its page; the unit is a lock, or a linear MDP."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.demo_reg_rl import PAPER
from experiments.demo_reg_rl.config import Config, Law
from experiments.demo_reg_rl.law import ALONE, exponents, law_runs
from experiments.demo_reg_rl.linear_law import KINDS, linear_law
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.reports.intervals import bootstrap_claim, mean_claim
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.reports.rates import bound_claim
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]
SLOPE, WITHIN = -0.8, (1.8, 2.2)  # the slack of the fast rate: a fifth
SAVED = 0.2  # of the episodes without demonstrations, with the most of them
LAW = "sample complexity 1 / (eps^2 N)"


def run_law(config: Config, job: Run) -> Outcome:
    """Locks in tables, and linear MDPs."""
    stages = {"law": lambda: law_runs(config), "linear law": lambda: linear_law(config)}
    found = run_stages(job, stages)
    claims = law_claims(config.law, found["law"], found["linear law"])
    tables = [episodes_table(config.law, found["law"]), slopes_table(config.law, found["law"])]
    save_stages(job.out, found)
    write_page(
        job.out,
        "Demonstration-regularised RL: the law",
        paper=PAPER,
        lead="Episodes until UCBVI-Ent+ stops, of the order 1 / (eps^2 N)?",
        claims=claims,
        figures={
            "law": show_panels(
                law_panels(config.law, found["law"], found["linear law"]),
                "Episodes to stop",
                "Left, combination locks; right, linear MDPs. Lines of slope -2.",
                "parallel lines for every N, which bend to slope -1 where eps is large",
            )
        },
        tables=tables,
    )
    return Outcome(claims, law_numbers(config.law, found["law"], found["linear law"]), tables[0])


def small(law: Law, values: np.ndarray) -> np.ndarray:
    """`exponents` [seeds, 2] of N and 1 / eps, where eps is at most `small`."""
    kept = [i for i, eps in enumerate(law.epsilons) if eps <= law.small]
    return exponents(values[..., kept], law.demos, [law.epsilons[i] for i in kept])


def tuned(law: Law, arrays: Arrays, kind: str, index: int) -> tuple[str, np.ndarray]:
    """The least bonus above 0 that breaks no guarantee, and its episodes [seeds, eps].

    The guarantee is V* - V <= eps_E + 2 eps at the stop, in every lock and for every eps.
    """
    for size in sorted(law.bonuses):
        key = f"{kind}/{size:g}"
        if size > 0 and arrays[f"share/{key}"][:, index].max() <= 1:
            return f"{size:g}", arrays[f"stop/{key}"][:, index]
    return "theory", arrays[f"stop/{kind}/theory"][:, index]


def law_claims(law: Law, arrays: Arrays, linear: Arrays) -> list[Claim]:
    """Exponents, what is saved, and the guarantee where it stops."""
    at = f"{law.bonus:g}"
    about = {"kind": "theorem", "source": LAW}
    fits = {
        "locks": {
            name: small(law, arrays[f"stop/{name}/{at}"])
            for name in ("clone", "uniform demonstrations", "fixed penalty")
        },
        "linear MDPs": {
            name: exponents(linear[f"stop/{each}/{at}"], law.demos, law.linear_epsilons)
            for name, each in zip(
                ("clone", "uniform demonstrations", "fixed penalty"), KINDS, strict=True
            )
        },
    }
    claims = []
    for world, fit in fits.items():
        asked = f", eps <= {law.small:g}" if world == "locks" else ""
        shown = f"law, {world}{asked}: exponent of"
        aimless = (
            "demonstrations of the uniform policy",
            fit["uniform demonstrations"][:, 0].mean(),
        )
        claims.append(
            mean_claim(
                f"{shown} N in episodes", fit["clone"][:, 0], "<=", SLOPE, baseline=aimless, **about
            )
        )
        fixed = ("a penalty that does not fall with eps", fit["fixed penalty"][:, 1].mean())
        of_eps = f"{shown} 1 / eps in episodes"
        rate = fit["clone"][:, 1]
        claims += [
            mean_claim(f"{of_eps}, at least", rate, ">=", WITHIN[0], baseline=fixed, **about),
            mean_claim(f"{of_eps}, at most", rate, "<=", WITHIN[1], **about),
        ]
    return [*claims, saved_claim(law, arrays), guarantee_claim(law, arrays)]


def saved_claim(law: Law, arrays: Arrays) -> Claim:
    """Episodes with the most demonstrations against those without, each at its own bonus."""
    most = len(law.demos) - 1
    none = np.minimum(*(tuned(law, arrays, kind, 0)[1] for kind in ALONE))

    def share(stops: np.ndarray, alone: np.ndarray) -> float:
        return float(np.exp(np.mean(np.log(stops) - np.log(alone))))

    aimless = arrays[f"stop/uniform episodes/{law.bonus:g}"][:, most]
    same = np.minimum(*(arrays[f"stop/{kind}/{law.bonus:g}"][:, 0] for kind in ALONE))
    return bootstrap_claim(
        f"law, locks: episodes with N = {law.demos[-1]} over the fewer of both references without "
        "demonstrations, bonus tuned for each",
        share,
        [tuned(law, arrays, "clone", most)[1], none],
        "<=",
        SAVED,
        kind="theorem",
        source=f"{LAW}; the share asked on the lock",
        baseline=("episodes of the uniform policy", share(aimless, same)),
    )


def guarantee_claim(law: Law, arrays: Arrays) -> Claim:
    """V* - V <= eps_E + 2 eps where it stops."""

    def flat(name: str) -> np.ndarray:
        return arrays[name].reshape(law.num_seeds, -1)

    values = flat(f"share/clone/{law.bonus:g}")
    return bound_claim(
        f"law, locks: largest share of eps_E + 2 eps at the stop, bonus {law.bonus:g}",
        values,
        np.ones(values.shape[-1]),
        source="V* - V <= eps_E + 2 eps",
        baseline=("no bonus", flat("share/clone/0")),
    )


def geometric(values: np.ndarray) -> np.ndarray:
    """Geometric mean over seeds."""
    return np.exp(np.log(values).mean(0))


def runs_of(arrays: Arrays, what: str = "stop") -> dict[str, np.ndarray]:
    """Names "kind, bonus" and arrays [seeds, N, eps]."""
    keys = [key for key in arrays if key.startswith(f"{what}/")]
    return {", bonus ".join(key.split("/")[1:]): arrays[key] for key in keys}


def episodes_table(law: Law, arrays: Arrays) -> Table:
    """Kinds and numbers of demonstrations down, eps across."""
    rows = []
    for name, values in runs_of(arrays).items():
        sizes = law.demos if values.shape[1] > 1 else (None,)
        shares = runs_of(arrays, "share")[name].max((0, 2))
        rows += [
            (name, size, *(f"{x:.3g}" for x in row), f"{share:.2g}")
            for size, row, share in zip(sizes, geometric(values), shares, strict=True)
        ]
    return Table(
        "Episodes until the bound G is at most eps",
        ("run", "N", *(f"eps = {eps:g}" for eps in law.epsilons), "largest share of the guarantee"),
        rows,
        note=f"geometric means over {law.num_seeds} locks; the last column is V* - V at the stop "
        "over eps_E + 2 eps, the largest of all locks and eps",
    )


def slopes_table(law: Law, arrays: Arrays) -> Table:
    """Exponents of N at each eps, of each run with demonstrations."""
    rows = []
    for name, values in runs_of(arrays).items():
        if values.shape[1] == 1:
            continue
        each = [
            np.polyfit(np.log(law.demos), np.log(values[..., i]).mean(0), 1)[0]
            for i in range(len(law.epsilons))
        ]
        rows.append((name, *(f"{x:.2f}" for x in each)))
    kl = np.polyfit(np.log(law.demos), np.log(arrays["kl"]).mean(0), 1)[0]
    rows.append(("KL(expert || clone)", *(f"{kl:.2f}" for _ in law.epsilons)))
    return Table("Exponent of N", ("run", *(f"eps = {eps:g}" for eps in law.epsilons)), rows)


def law_numbers(law: Law, arrays: Arrays, linear: Arrays) -> dict:
    """Exponents of all kinds, and the bonuses that were best."""
    fits = {
        name: small(law, values).mean(0).tolist()
        for name, values in runs_of(arrays).items()
        if values.shape[1] > 1 and not name.endswith("bonus 0")
    }
    fits |= {
        name: exponents(values, law.demos, law.linear_epsilons).mean(0).tolist()
        for name, values in runs_of(linear).items()
    }
    best = {f"clone, N = {n}": tuned(law, arrays, "clone", i)[0] for i, n in enumerate(law.demos)}
    best |= {kind: tuned(law, arrays, kind, 0)[0] for kind in ALONE}
    episodes = {name: geometric(values).tolist() for name, values in runs_of(linear).items()}
    shares = {name: float(x.max()) for name, x in runs_of(linear, "share").items()}
    at = f"{law.bonus:g}"
    pairs = ((arrays, "clone", law.epsilons), (linear, KINDS[0], law.linear_epsilons))
    return {
        "exponents of N and 1 / eps": fits,
        "exponent of KL(expert || clone)": {
            kind: [
                float(
                    np.mean(
                        [
                            np.polyfit(np.log(kl), np.log(stop), 1)[0]
                            for kl, stop in zip(
                                found["kl"], found[f"stop/{kind}/{at}"][..., i], strict=True
                            )
                        ]
                    )
                )
                for i in range(len(epsilons))
            ]
            for found, kind, epsilons in pairs
        },
        "linear MDPs, KL(expert || clone)": linear["kl"].mean(0).tolist(),
        "least bonus that keeps the guarantee": best,
        "linear MDPs, episodes": episodes,
        "linear MDPs, largest share of the guarantee": shares,
        "KL(expert || clone)": arrays["kl"].mean(0).tolist(),
        "clone alone": arrays["alone"].mean(0).tolist(),
    }


def law_panels(law: Law, arrays: Arrays, linear: Arrays) -> list[Panel]:
    """Episodes against eps, a line for each N and each run without demonstrations."""
    at = f"{law.bonus:g}"
    return [
        law_panel(
            "combination locks",
            law.epsilons,
            curves(law.demos, arrays[f"stop/clone/{at}"])
            | {kind: arrays[f"stop/{kind}/{at}"][:, 0] for kind in ALONE},
        ),
        law_panel(
            "linear MDPs",
            law.linear_epsilons,
            curves(law.demos, linear[f"stop/{KINDS[0]}/{at}"]),
        ),
    ]


def curves(demos: Sequence[int], values: np.ndarray) -> dict[str, np.ndarray]:
    """N -> [seeds, eps]."""
    return {f"N = {size}": values[:, i] for i, size in enumerate(demos)}


def law_panel(title: str, epsilons: Sequence[float], lines: Mapping[str, np.ndarray]) -> Panel:
    """With a line of slope -2 through the first curve's last point."""
    eps = np.asarray(epsilons)
    last = geometric(next(iter(lines.values())))[-1]
    return Panel(
        title,
        "eps",
        "episodes to stop",
        {name: band(eps, values) for name, values in lines.items()},
        guides={"slope -2": Series(eps, last * (eps[-1] / eps) ** 2)},
        log_x=True,
        log_y=True,
    )
