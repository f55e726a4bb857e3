"""The law of demo_reg_rl: visits of many episodes, exponents, its claims and what breaks them."""

import numpy as np
import pytest

from experiments.demo_reg_rl import config as demo_config
from experiments.demo_reg_rl import law, law_report, linear_law
from experiments.demo_reg_rl.run import run as run_demo
from rlhf_jax.training import open_run

LAW = demo_config.Law()
AT = f"{LAW.bonus:g}"
TINY = demo_config.Law(
    num_seeds=2,
    demos=(30, 300),
    epsilons=(0.1, 0.01),
    small=0.1,
    linear_epsilons=(0.1, 0.05),
    bonuses=(0.0, 0.3),
)


def made_up(size: demo_config.Law) -> tuple[dict, dict]:
    """T = 1 / (eps^2 N) where demonstrations count, 1 / eps^2 elsewhere; two seeds, no noise."""
    n = np.asarray(size.demos, float)[:, None]

    def block(values):
        return np.asarray(values)[None].repeat(size.num_seeds, 0)

    found = {"kl": block(1 / n[:, 0]), "alone": block(0.2 + 0 * n[:, 0])}
    for bonus in (*(f"{b:g}" for b in size.bonuses), "theory"):
        for kind in (*law.DEMONSTRATED, *law.ALONE):
            eps = np.asarray(size.epsilons)
            rows = n if kind in law.DEMONSTRATED else np.ones((1, 1))
            times = {"clone": 1 / (eps**2 * n), "fixed penalty": 1 / (eps * n)}
            found[f"stop/{kind}/{bonus}"] = block(times.get(kind, 1 / eps**2 + 0 * rows))
            found[f"share/{kind}/{bonus}"] = block(0 * rows * eps + (0.5 if bonus != "0" else 2.0))
    eps = np.asarray(size.linear_epsilons)
    shapes = (1 / (eps**2 * n), 1 / eps**2 + 0 * n, 1 / (eps * n))
    linear = {"kl": block(1 / n[:, 0])} | {
        f"stop/{kind}/{size.bonus:g}": block(t)
        for kind, t in zip(linear_law.KINDS, shapes, strict=True)
    }
    return found, linear


def verdicts(found: dict, linear: dict) -> list[str]:
    return [claim.verdict for claim in law_report.law_claims(LAW, found, linear)]


def test_the_claims_hold_where_the_law_does():
    claims = law_report.law_claims(LAW, *made_up(LAW))
    assert {claim.verdict for claim in claims} == {"holds"}
    asked = {(claim.op, claim.threshold) for claim in claims}
    assert asked == {("<=", -0.8), (">=", 1.8), ("<=", 2.2), ("<=", 0.2), ("<=", 1)}


def test_claims_fail_where_demonstrations_save_nothing_and_where_the_bonus_does_nothing():
    found, linear = made_up(LAW)
    none = dict(found)
    for bonus in ("0.01", "0.03", "0.1", "0.3", "1"):
        none[f"stop/clone/{bonus}"] = found[f"stop/uniform demonstrations/{bonus}"]
    assert verdicts(none, linear)[0] == "fails"
    assert verdicts(none, linear)[-2] == "fails"
    broken = found | {f"share/clone/{AT}": found["share/clone/0"]}
    assert verdicts(broken, linear)[-1] == "fails"
    level = found | {f"stop/uniform demonstrations/{AT}": found[f"stop/clone/{AT}"]}
    assert verdicts(level, linear)[0] == "undecided"


def test_the_bonus_is_the_least_that_keeps_the_guarantee():
    found, _ = made_up(LAW)
    found["share/clone/0.01"] = found["share/clone/0.01"] + 1
    assert law_report.tuned(LAW, found, "clone", 0)[0] == "0.03"
    for bonus in LAW.bonuses:
        found[f"share/clone/{bonus:g}"] = 2 + 0 * found["share/clone/0"]
    assert law_report.tuned(LAW, found, "clone", 0)[0] == "theory"


def test_exponents_of_a_power_law():
    n, eps = np.array([10.0, 100.0])[:, None], np.array([0.1, 0.01, 0.001])
    values = np.stack([3 * n**-1.0 * eps**-2.0, 5 * n**0.5 * eps**-1.0])
    found = law.exponents(values, n[:, 0], eps)
    np.testing.assert_allclose(found, [[-1.0, 2.0], [0.5, 1.0]], atol=1e-12)


def test_visits_are_those_of_a_plan_that_explores_at_one_step_at_most():
    """Expected counts of the mixture over the step, computed step by step."""
    rng = np.random.default_rng(0)
    shape = (3, 2, 2)
    plan, wide = rng.dirichlet(np.ones(2), (2, *shape[:2]))
    moves = rng.dirichlet(np.ones(2), shape)
    expected = np.zeros((*shape, 2))
    for explored in range(4):
        here = np.array([1.0, 0.0])
        for h in range(3):
            policy = wide[h] if h == explored else plan[h]
            after = here[:, None, None] * policy[..., None] * moves[h]
            expected[h] += after / 4
            here = after.sum((0, 1))
    size = 1_000_000
    found = law.visits(rng, np.array([size]), np.log(plan)[None], np.log(wide)[None], moves[None])
    np.testing.assert_allclose(found[0] / size, expected, atol=0.003)
    assert found.sum() == 3 * size


@pytest.mark.long
def test_a_tiny_run_keeps_the_guarantee_and_writes_its_page(tmp_path):
    config = demo_config.Config(panel=True, law=TINY)
    with open_run(tmp_path, slug="demo_reg_rl", config=config) as job:
        outcome = run_demo(config, job)
    assert len(outcome.claims) == 8
    kept = {path.stem: dict(np.load(path)) for path in (tmp_path / "data").glob("*.npz")}
    found = kept["law"]
    assert np.isfinite(found["stop/clone/0.3"]).all()
    assert found["share/clone/0.3"].max() <= 1
    # Without a bonus nothing is uncertain once it was tried.
    assert (found["stop/clone/0"] < found["stop/clone/0.3"])[..., -1].all()
    # More demonstrations, fewer episodes; a smaller eps, more.
    assert (np.diff(np.log(found["stop/clone/0.3"]).mean(0), axis=0) < 0).all()
    assert (np.diff(np.log(found["stop/clone/0.3"]).mean(0), axis=1) > 0).all()
    assert "Episodes until the bound G" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
        ({"demos": (300, 30)}, "demos must rise"),
        ({"epsilons": (1e-4, 1e-3)}, "epsilons must fall"),
        ({"linear_epsilons": (0.1,)}, "linear_epsilons must fall"),
        ({"small": 1e-5}, "epsilons must have two of at most"),
        ({"bonuses": (0.1, 1.0)}, "bonuses must have 0 and 0.3"),
        ({"growth": 0.0}, r"growth must be in \(0, inf\)"),
        ({"most": 0.0}, r"most must be in \[1, inf\)"),
    ],
)
def test_values_of_the_law_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        demo_config.Law(**change)


def test_the_size_of_the_law_is_the_law_alone():
    assert demo_config.law().panel
    assert not demo_config.default().panel
