"""What a certificate says, number by number, and what `certify` refuses."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.certify import LAYOUTS, Certificate, Deviation, certify
from rlhf_jax.ops import Mean, masked_sum

EVERY = {"micro-batches", "gradient accumulation", *LAYOUTS}
X = jnp.array([[6.0, 0.0, 0.0], [2.0, 2.0, 2.0]])
COUNTED = jnp.array([[True, False, False], [True, True, True]])
EIGHT = (jnp.tile(X, (4, 1)) + jnp.arange(8.0)[:, None], jnp.arange(3) < jnp.arange(8)[:, None])
SCALE = jnp.asarray(2.0)


def only(*names):
    """Arguments of `certify` for these layouts and no other."""
    return {"skip": dict.fromkeys(EVERY - set(names), "not asked for"), "meshes": ()}


def scaled_mean(params, batch):
    """A scalar, divided by the entries that the batch it is given counts."""
    x, mask = batch
    return params * masked_sum(x, mask) / jnp.sum(mask)


def test_deviations_golden_numbers():
    """Whole: 12 / 4 = 3 times p = 2. Parts: 6 / 1 and 6 / 3, on average 4 times p.

    Value 8 for 6, so 1/3; gradient 4 for 3, so 1/3. With p = 0.5 the value 2 for 1.5 is measured
    by the larger gradient, 3: 1/6.
    """
    arguments = only("micro-batches", "gradient accumulation")
    for params, value in ((2.0, 1 / 3), (0.5, 1 / 6)):
        certificate = certify(scaled_mean, (X, COUNTED), params=jnp.asarray(params), **arguments)
        for name in ("micro-batches", "gradient accumulation"):
            np.testing.assert_allclose(certificate.deviations[name], (value, 1 / 3), rtol=1e-6)
        np.testing.assert_allclose(certificate.worst, 1 / 3, rtol=1e-6)
    loose = certify(scaled_mean, (X, COUNTED), params=SCALE, tolerance=0.4, show=False, **arguments)
    assert loose.holds


def test_a_batch_without_trajectories_or_weights_says_so():
    certificate = certify(scaled_mean, (X, COUNTED), params=SCALE, meshes=((1, 1),))
    assert certificate.deviations.keys() == {"micro-batches", "row order", "gradient accumulation"}
    told = certificate.not_applicable
    assert told["unequal micro-batches"] == "2 rows have no unequal split"
    assert all("no Trajectory" in told[name] for name in ("padding", "padding side", "packing"))
    assert told["rows of weight zero"] == "the batch has no weights"
    assert told["mesh 1x1"] == "one device is the whole batch"


def test_meshes_that_do_not_fit_say_so():
    certificate = certify(
        scaled_mean,
        EIGHT,
        params=SCALE,
        **only("row order") | {"meshes": ((9, 1), (3, 2))},
    )
    assert certificate.not_applicable["mesh 9x1"] == "9 devices are needed, 8 present"
    assert certificate.not_applicable["mesh 3x2"] == "8 rows do not divide over 3 devices"


def test_the_table_is_printed(capsys):
    arguments = only("row order", "micro-batches")
    certificate = certify(scaled_mean, EIGHT, params=SCALE, **arguments)
    printed = capsys.readouterr().out
    assert printed == f"{certificate}\n"
    assert re.search(r"(?m)^micro-batches  .*<- differs$", printed)
    assert re.search(r"(?m)^packing  +not applicable: not asked for$", printed)
    assert re.search(r"(?m)^worst .* \(micro-batches\), tolerance 1e-05: does not hold$", printed)
    rows = printed.splitlines()[:3]
    assert len({len(row.removesuffix("  <- differs")) for row in rows}) == 1
    certify(scaled_mean, EIGHT, params=SCALE, show=False, **arguments)
    assert capsys.readouterr().out == ""


def test_a_certificate_with_nan_does_not_hold():
    certificate = Certificate({"padding": Deviation(np.inf, 0.0)}, {}, 1e-5)
    assert not certificate.holds
    assert certificate.worst == np.inf
    assert "inf" in str(certificate)


def test_a_layout_can_be_added_and_replaced():
    halves = [np.arange(3), np.arange(3, 8)]

    def three_and_five(batch):
        return [jax.tree.map(lambda x, rows=rows: x[rows], batch) for rows in halves]

    mine = {"three and five": three_and_five, "micro-batches": three_and_five}
    certificate = certify(
        scaled_mean, EIGHT, params=SCALE, layouts={**LAYOUTS, **mine}, **only(*mine)
    )
    whole = scaled_mean(SCALE, EIGHT)
    mean = np.mean([scaled_mean(SCALE, part) for part in three_and_five(EIGHT)])
    expected = abs(mean - whole) / whole
    assert certificate.deviations.keys() == set(mine)
    np.testing.assert_allclose(certificate.deviations["three and five"].value, expected, rtol=1e-5)
    assert certificate.deviations["three and five"] == certificate.deviations["micro-batches"]
    assert not certificate.holds


# What is refused.


def returns(result):
    return lambda params, batch: jax.tree.map(lambda x: x * jnp.sum(params), result)


@pytest.mark.parametrize(
    ("loss_fn", "told"),
    [
        (returns(jnp.ones(8)), r"got an array of shape \(8,\)"),
        (returns({"loss": 1.0}), "got dict"),
        (returns((1.0, 2.0, 3.0)), "got tuple"),
        (returns(Mean(jnp.ones(8), jnp.ones(8))), r"got Mean\(total=\(8,\), weight=\(8,\)\)"),
        (lambda params, batch: None, "got NoneType"),
    ],
)
def test_a_loss_that_returns_something_else_is_named(loss_fn, told):
    with pytest.raises(TypeError, match=f"must return a Mean.*{told}"):
        certify(loss_fn, EIGHT, params=SCALE)


def ones(params, batch):
    return jnp.sum(params)


@pytest.mark.parametrize(
    ("batch", "arguments", "told"),
    [
        ({"x": np.ones(8), "beta": 0.1}, {}, r"batch\['beta'\] has no leading axis"),
        ({"x": np.ones(8), "y": np.ones(7)}, {}, r"batch\['y'\] has 7 rows where .* has 8"),
        ({}, {}, "no array"),
        (np.ones(8), {"parts": 9}, "8 rows cannot be split into 9 parts"),
        (np.ones(8), {"parts": 1}, "at least 2, got 1"),
        (np.ones(8), {"skip": {"pakcing": ""}}, r"no such layout: \['pakcing'\]"),
        (np.ones(8), only(), "nothing is certified"),
    ],
)
def test_a_batch_or_argument_that_cannot_be_used_is_named(batch, arguments, told):
    with pytest.raises(ValueError, match=told):
        certify(ones, batch, params=SCALE, **arguments)


def test_what_is_not_finite_cannot_be_certified():
    with pytest.raises(ValueError, match="the loss is inf on the whole batch"):
        certify(lambda params, batch: jnp.sum(params) / 0.0, EIGHT, params=SCALE)
    with pytest.raises(ValueError, match=r"gradient of params\['a'\] is not finite"):
        certify(lambda params, batch: jnp.sqrt(params["a"]), EIGHT, params={"a": jnp.zeros(())})
