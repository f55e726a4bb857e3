"""Scores that nothing may be chosen by."""

import numpy as np
import pytest

from rlhf_jax.recipes.rewards import check_scores
from rlhf_jax.training import UserError


def test_a_score_that_is_not_finite_names_its_prompt():
    indices = np.array([30, 7, 12])
    check_scores(indices, np.zeros(3))
    with pytest.raises(UserError, match=r"prompt 7: .* got nan \(1 of 3"):
        check_scores(indices, np.array([0.1, np.nan, 0.3]))
    with pytest.raises(UserError, match=r"prompt 7: .* got \[1\.0, inf\] \(2 of 3"):
        check_scores(indices, np.array([[0.1, 0.2], [1.0, np.inf], [-np.inf, 0.0]]))
