"""Untrusted Python, run where it can harm nothing: Linux namespaces, limits, no network, no home.

    check_sandbox()                               # UserError where no namespace can be made
    run_tests("def f(x): return x + 1", "assert f(1) == 2", Limits())

An answer and its tests run in two sandboxes that share one socket. Values cross it as data (see
`peers`), so that an answer can neither read its tests nor write their verdict.
"""

from rlhf_jax.rewards.sandbox.namespaces import Limits as Limits
from rlhf_jax.rewards.sandbox.namespaces import SandboxError as SandboxError
from rlhf_jax.rewards.sandbox.namespaces import check_sandbox as check_sandbox
from rlhf_jax.rewards.sandbox.tests import Verdict as Verdict
from rlhf_jax.rewards.sandbox.tests import run_tests as run_tests
