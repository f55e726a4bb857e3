"""docs/rewards.md: its code runs as one program, and the table has every spec."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.rewards import SandboxError, make_reward
from rlhf_jax.rewards.sandbox import check_sandbox

PAGE = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def can_sandbox() -> bool:
    try:
        check_sandbox()
    except SandboxError:
        return False
    return True


@pytest.mark.slow
def test_its_code_runs():
    for package in ("math_verify", "regex", "openai"):
        pytest.importorskip(package)
    names: dict = {}
    for block in BLOCKS:
        if "run_tests" not in block or can_sandbox():
            exec(compile(block, "docs/rewards.md", "exec"), names)


@pytest.mark.long
def test_the_code_of_groups_runs():
    (block,) = [each for each in BLOCKS if "worst_group_scores" in each]
    names: dict = {"jnp": jnp}
    exec(compile(block, "docs/rewards.md", "exec"), names)
    np.testing.assert_allclose(names["weights"].sum(), 1.0, rtol=1e-6)


def test_its_table_has_every_spec():
    specs = set(re.findall(r"`([^`]+)`", make_reward.__doc__ or "")) - {
        *("exact_reward", "math_reward", "code_reward", "regex_reward", "chat_reward"),
        *("program_reward", "load_function", "https://..."),
    }
    assert len(specs) == 11
    assert [spec for spec in specs if f"`{spec}`" not in PAGE] == []
