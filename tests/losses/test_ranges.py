"""The ranges that docstrings state are the ones checked: objectives, teachers and backups.

Each range is read off the docstring of the function or else of its module ("KL weight, > 0", "h in
[0, 1/2)"), so documentation and check can't drift apart. Functions are only traced: errors are
raised before any computation.
"""

import inspect
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import chain, count
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from docs.make_losses import PARTS, functions
from rlhf_jax.losses import links
from rlhf_jax.ops.masking import Mean

TAUGHT = ["feedback.choices", "feedback.interventions", "feedback.teachers", "ops.bellman"]
MODULES = [*chain(*PARTS.values()), *TAUGHT]
FUNCTIONS = dict(chain.from_iterable(functions(module) for module in MODULES))
BOUNDED = {"c_clip": "[0, inf]", "cache": "(0, 1]"}  # by another keyword: rho_clip, max_length


@pytest.fixture(autouse=True)
def checked_by_the_library_alone():
    """Without the type checker of the test run, which users don't have."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def described(function: Callable, name: str) -> str:
    """The docstring's text about an argument, else that of its module, on one line."""
    pattern = rf"^  (?:\w+, )*{name}(?:, \w+)*: (.*(?:\n    .*)*)"
    docs = (inspect.getdoc(function), inspect.getdoc(inspect.getmodule(function)))
    found = (re.search(pattern, doc or "", re.MULTILINE) for doc in docs)
    match = next(filter(None, found), None)
    assert match, f"neither {function} nor its module describes {name}"
    text = " ".join(match[1].split())
    other = re.search(r"as in `(\w+)`", text)
    return described(FUNCTIONS[other[1]], name) if other and other[1] in FUNCTIONS else text


def stated(function: Callable, name: str) -> str:
    """The interval that the docstring states for a keyword."""
    text = described(function, name)
    top = "inf]" if re.search(r"nfinity|\binf\b", text) else "inf)"
    if name in BOUNDED:
        return BOUNDED[name]
    if "any real" in text:
        return "(-inf, inf)"
    if interval := re.search(r"in ([\[(]-?[\d/]+, [\d/]+[\])])", text):
        return interval[1]
    if bound := re.search(r"(>=?) (\d)", text):
        return f"{'[' if bound[1] == '>=' else '('}{bound[2]}, {top}"
    return "(-inf, inf)"


def sides(interval: str) -> tuple[list[float], list[float]]:
    """Numbers inside the interval, its own ends included, and numbers outside."""
    low, high = (
        float(Fraction(end)) if "/" in end else float(end) for end in interval[1:-1].split(",")
    )
    middle = max(low, -1.0) + 1.0 if np.isinf(high) else (low + high) / 2
    inside, outside = [middle], [np.nan, low - 0.5, high + 0.5]
    (inside if interval[0] == "[" else outside).append(low)
    (inside if interval[-1] == "]" else outside).append(high)
    return inside, [x for x in outside if x not in inside]


def scalars(function: Callable) -> list[str]:
    """Arguments that are one number."""
    texts = {name: str(p.annotation) for name, p in inspect.signature(function).parameters.items()}
    return [
        name
        for name, text in texts.items()
        if re.search(r"\bfloat\b", text) and not any(re.findall(r"Array, '([^']*)'", text))
    ]


def arrays(function: Callable, kind: str) -> list[str]:
    """Arguments that are Float, Bool or Int arrays."""
    parameters = inspect.signature(function).parameters
    found = (name for name, p in parameters.items() if f"{kind}[" in str(p.annotation))
    return [name for name in found if name not in scalars(function)]


def filled(annotation) -> Any:
    """A value that an argument takes: arrays are of size 2 along each named axis."""
    text = str(annotation)
    if annotation is int:
        return 1
    if "PyTree" in text:
        return jnp.ones((2, 2))
    if annotation is Mean:
        return Mean(jnp.zeros(()), jnp.zeros(()))
    if "Callable" in text:
        return links.logistic
    if "Key" in text or annotation is jax.Array:
        return jax.random.key(0)
    kind, axes = re.findall(r"(Float|Bool|Int)\[\S*Array, '([^']*)'\]", text)[0]
    shape = [2 for axis in axes.split() if not axis.startswith("*")]
    return jnp.ones(shape, {"Float": float, "Bool": bool, "Int": int}[kind])


def arguments_of(function: Callable, **changed) -> dict:
    """Arrays of ones, scalars inside their ranges, sets of ids, and what is changed."""
    arguments, ids = {}, count()
    for name, parameter in inspect.signature(function).parameters.items():
        if name in changed:
            arguments[name] = changed[name]
        elif name in scalars(function):
            arguments[name] = sides(stated(function, name))[0][0]
        elif parameter.annotation == Sequence[int]:
            arguments[name] = (next(ids),)  # sets of tokens without a common one
        elif parameter.default is parameter.empty:
            arguments[name] = filled(parameter.annotation)
    return arguments


def call(function: Callable, **changed) -> None:
    """Traces the function on such arguments; what is changed is known while tracing."""
    arguments = arguments_of(function, **changed)
    traced = {k: v for k, v in arguments.items() if isinstance(v, jax.Array) and k not in changed}
    known = {k: v for k, v in arguments.items() if k not in traced}
    jax.eval_shape(lambda traced: function(**traced, **known), traced)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_keywords_out_of_their_stated_range_are_refused_by_name(name):
    function = FUNCTIONS[name]
    for keyword in scalars(function):
        inside, outside = sides(stated(function, keyword))
        for value in inside:
            call(function, **{keyword: value})
        for value in (*outside, jnp.ones(2), None):
            with pytest.raises(ValueError, match=rf"\b{keyword}\b.* must be"):
                call(function, **{keyword: value})


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if arrays(FUNCTIONS[name], "Bool")])
def test_masks_and_labels_of_another_dtype_are_refused_by_name(name):
    """Labels of -100 would all count, and 0.5 would count as 1."""
    function = FUNCTIONS[name]
    parameters = inspect.signature(function).parameters
    for argument in arrays(function, "Bool"):
        for dtype in (int, float):
            wrong = filled(parameters[argument].annotation).astype(dtype)
            with pytest.raises(TypeError, match=f"{argument} must be bool"):
                call(function, **{argument: wrong})


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if arrays(FUNCTIONS[name], "Int")])
def test_ids_and_counts_that_are_floats_are_refused_by_name(name):
    function = FUNCTIONS[name]
    parameters = inspect.signature(function).parameters
    for argument in arrays(function, "Int"):
        wrong = filled(parameters[argument].annotation).astype(float)
        if "Float" not in str(parameters[argument].annotation):
            with pytest.raises(TypeError, match=f"{argument} must be integers"):
                call(function, **{argument: wrong})


def test_known_negative_weights_are_refused_wherever_weights_are_taken():
    taking = [f for f in FUNCTIONS.values() if "weights" in arrays(f, "Float")]
    taking = [f for f in taking if ">= 0" in described(f, "weights")]
    assert len(taking) > 8
    for function in taking:
        annotation = inspect.signature(function).parameters["weights"].annotation
        with pytest.raises(ValueError, match=r"weights must be in \[0, inf\), got -1.0"):
            function(**arguments_of(function, weights=-filled(annotation)))
