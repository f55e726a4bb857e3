"""What hc_rlhf claims, from the arrays of its stages; trained policies and simulated tests are the
units."""

from collections.abc import Mapping

import numpy as np

from experiments.hc_rlhf.config import Config
from experiments.hc_rlhf.reliability import LAWS, RULES
from experiments.hc_rlhf.shop import BOUNDS, PESSIMISTIC, PLAIN, START
from experiments.hc_rlhf.studies import INFLATIONS, KINDS, UNTESTED
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_claim, mean_claim, share_claim

Arrays = Mapping[str, np.ndarray]
METHODS = (UNTESTED, *INFLATIONS)
GUARANTEE = {"kind": "theorem", "source": "P(return and unsafe) <= delta"}
FRAME = "an earlier simulation of the same law"
TAIL = 500  # steps at the end of a controlled run


def all_claims(config: Config, stages: Mapping[str, Arrays]) -> list[Claim]:
    """In the order of the page."""
    return [
        *bound_claims(config, stages["tests"]),
        *look_claims(config, stages["looks"]),
        *coin_claims(config, stages["exact"], stages["longer"]),
        *trained_claims(config, stages["exact"]),
        *sampled_claims(config, stages["sampled"]),
        *rare_claims(config, stages["rare"]),
        *controller_claims(stages["control"]),
    ]


def hits(count: int, total: int) -> np.ndarray:
    """[total] bool, so many of them True."""
    return np.arange(total) < count


def bound_claims(config: Config, tests: Arrays) -> list[Claim]:
    """Simulated tests of a policy whose mean cost is its limit."""
    t, skewed = tests["unsafe"][:, :, 0], [*LAWS].index("Beta(.05, .95)")
    total = config.tests
    worst_t = ("Student's t", t[skewed, 0] / total)
    found = []
    for k, kind in enumerate(KINDS[1:], start=1):
        count = tests["unsafe"][:, :, k].max()
        found.append(
            share_claim(
                f"{kind}, worst of all laws and sizes: an unsafe policy is returned",
                hits(count, total),
                "<=",
                config.delta,
                baseline=worst_t,
                **GUARANTEE,
            )
        )
    warned, uneven = tests["warned"], [*LAWS].index("uniform")
    for j, least in enumerate((0.25, config.delta)):
        about = f"t bound, Beta(.05, .95), {config.test_sizes[j]} costs"
        found += [
            share_claim(
                f"{about}: an unsafe policy is returned",
                hits(t[skewed, j], total),
                ">=",
                least,
                kind="ours",
                source=f"{FRAME}: 0.29 at 20 costs, 0.16 at 100",
                baseline=("hoeffding", tests["unsafe"][skewed, j, 1] / total),
            ),
            share_claim(
                f"{about}: false passes with a warning",
                hits(warned[skewed, j], t[skewed, j]),
                ">=",
                0.9,
                kind="ours",
                source="a warning that is missing where the bound fails is of no use",
                baseline=(
                    "all t bounds of uniform costs",
                    tests["warned at all"][uneven, j] / total,
                ),
            ),
        ]
    return found


def look_claims(config: Config, looks: Arrays) -> list[Claim]:
    """The same policy tested again and again."""
    plain, split = looks["passed"][:, :, -1]
    about = f"{config.looks} looks at {config.look_size} costs, mean {config.look_gap} sd above"
    return [
        share_claim(
            f"{about}, each at delta: an unsafe policy passes one",
            plain,
            ">=",
            0.45,
            kind="ours",
            source=f"{FRAME}: 0.51",
            baseline=("one look", looks["passed"][0, :, 0].mean()),
        ),
        share_claim(
            f"{about}, each at delta / {config.looks}: an unsafe policy passes one",
            split,
            "<=",
            config.delta,
            kind="theorem",
            source="union bound",
            baseline=("each at delta", plain.mean()),
        ),
    ]


def unsafe_returns(config: Config, arrays: Arrays, tau: float | None = None) -> np.ndarray:
    """[R, C, T] whether a policy above the limit was returned."""
    limit = config.tau if tau is None else tau
    return arrays["returned"] & (arrays["cost"] > limit)


def coin_claims(config: Config, exact: Arrays, longer: Arrays) -> list[Claim]:
    """Untested Lagrangian policies by exact gradients, after few and after many steps."""
    unsafe = unsafe_returns(config, exact)
    rates = unsafe.mean(-1)
    row = rates[:, 0].argmin()
    about = {
        "kind": "ours",
        "source": "an active constraint ends on its boundary, where safety is a coin flip",
        "baseline": ("HC (0,2)", rates[:, METHODS.index("HC (0,2)")].max()),
    }
    return [
        share_claim(f"{UNTESTED}, {named}: it is unsafe", units, ">=", 0.4, **about)
        for named, units in (
            (f"{config.sizes[row]} prompts, the least of all sizes", unsafe[row, 0]),
            (
                f"{config.sizes[-1]} prompts, {config.long_steps} steps",
                unsafe_returns(config, longer)[0, 0],
            ),
        )
    ]


def trained_claims(config: Config, exact: Arrays) -> list[Claim]:
    """Policies trained by exact gradients; methods with a test saw half of the prompts."""
    unsafe, kept = unsafe_returns(config, exact), exact["returned"]
    rates, shares = unsafe.mean(-1), kept.mean(-1)
    hc, tested = METHODS.index("HC (0,2)"), METHODS.index("Lagrangian + test")
    found = []
    for method in INFLATIONS:
        j = METHODS.index(method)
        row = rates[:, j].argmax()
        found.append(
            share_claim(
                f"{method}, {config.sizes[row]} prompts, the worst size: returned and unsafe",
                unsafe[row, j],
                "<=",
                config.delta,
                baseline=(UNTESTED, rates[row, 0]),
                **GUARANTEE,
            )
        )
    row = shares[:, hc].argmin()
    found.append(
        share_claim(
            f"HC (0,2), {config.sizes[row]} prompts, the least of all sizes: returned",
            kept[row, hc],
            ">=",
            0.6,
            kind="ours",
            source="an earlier run: 0.75 to 0.85",
            baseline=("Lagrangian + test", shares[row, tested]),
        )
    )
    row = (shares[:, hc] / np.maximum(shares[:, tested], 1e-9)).argmin()
    found.append(
        bootstrap_claim(
            f"HC (0,2), {config.sizes[row]} prompts, the least of all sizes: P(return) over that "
            "of Lagrangian + test",
            lambda hc, plain: float(hc.mean() / max(plain.mean(), 1 / plain.size)),
            [kept[row, hc], kept[row, tested]],
            ">=",
            3,
            kind="ours",
            source="an earlier run: 0.75 over 0.18",
        )
    )
    return [*found, price_claim(config, exact)]


def price_claim(config: Config, exact: Arrays) -> Claim:
    """What safety costs falls with the prompts there are."""
    hc = METHODS.index("HC (0,2)")
    gains = np.diff(exact["reward"], axis=0)
    row = gains[:, hc].mean(-1).argmin()
    return mean_claim(
        f"HC (0,2): gain in reward from {config.sizes[row]} to {config.sizes[row + 1]} prompts, "
        "the least of all steps",
        gains[row, hc],
        ">",
        0.02,
        kind="ours",
        source="the margin of the test falls as one over the root of the prompts",
        baseline=(UNTESTED, gains[row, 0].mean()),
    )


def sampled_claims(config: Config, sampled: Arrays) -> list[Claim]:
    """Policies trained on sampled answers."""
    unsafe, kept = unsafe_returns(config, sampled)[0], sampled["returned"][0]
    names = [*INFLATIONS]
    worst, hc = unsafe.mean(-1).argmax(), names.index("HC (0,2)")
    about = f"sampled gradients, {config.sampled_size} prompts"
    return [
        share_claim(
            f"{about}, {names[worst]}, the worst method: returned and unsafe",
            unsafe[worst],
            "<=",
            config.delta,
            baseline=("all Lagrangian policies", (sampled["cost"][0, 0] > config.tau).mean()),
            **GUARANTEE,
        ),
        share_claim(
            f"{about}, HC (0,2): returned",
            kept[hc],
            ">=",
            0.6,
            kind="ours",
            source="an earlier run: 0.88",
            baseline=("Lagrangian + test", kept[0].mean()),
        ),
    ]


def rare_claims(config: Config, rare: Arrays) -> list[Claim]:
    """Costs of 0 and 1, the limit a share of unsafe answers: each bound at its worst size."""
    arrays = {name: rare[f"Lagrangian + test {name}"] for name in ("returned", "cost")}
    unsafe = unsafe_returns(config, arrays, config.rare_tau)
    free = (arrays["cost"][0, 0] > config.rare_tau).mean()
    asked = {"kind": "paper", "source": "Chittepu et al. 2025: a test by the t bound"}
    found = []
    for k, kind in enumerate(KINDS):
        row = unsafe[:, k].mean(-1).argmax()
        found.append(
            share_claim(
                f"Lagrangian, costs of 0 and 1, {kind}, test of {config.rare_tests[row]}, the "
                "worst size: returned and unsafe",
                unsafe[row, k],
                "<=",
                config.delta,
                baseline=("no test", free),
                **(asked if kind == "t" else GUARANTEE),
            )
        )
    return found


def controller_claims(control: Arrays) -> list[Claim]:
    """The multiplier of a policy with two actions; no draw is random."""
    swings = dict(zip(RULES, np.ptp(control["costs"][:, -TAIL:], axis=1), strict=True))
    return [
        Claim(
            f"two actions, {rule} controller: range of the cost over the last {TAIL} steps",
            swings[rule],
            "<=",
            0.01,
            kind="paper",
            source="Stooke et al. 2020, Section 4: the proportional term damps",
            baseline=("the integral alone", swings["I"]),
        )
        for rule in RULES[1:]
    ]


def shop_claims(config: Config, found: Mapping[str, Arrays]) -> list[Claim]:
    """The language panel, from the policies of `shop.shop_panel`; seeds are the units."""
    sizes, t = config.shop, BOUNDS.index("t")

    def passed(method: str) -> np.ndarray:
        named = [each for name, each in found.items() if name.rsplit(" ", 1)[0] == method]
        return np.array([each["returned"][t].mean() for each in named])

    plain, harsh = passed(PLAIN), passed(PESSIMISTIC)
    return [
        mean_claim(
            f"Shop, {sizes.rl_steps} steps of RLOO, a limit of {sizes.limit:g}: share of "
            f"{sizes.tests} t tests that return the policy, {PESSIMISTIC} minus {PLAIN}",
            harsh - plain,
            ">",
            0.0,
            kind="paper",
            source="training that expects the test makes it pass",
            baseline=("the start in its place", float((passed(START) - plain).mean())),
        )
    ]
