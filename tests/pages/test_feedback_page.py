"""docs/feedback.md: what it names is there, nothing of the room is missing, and its code runs."""

import importlib
import inspect
import re
from pathlib import Path

import jax
import pytest

import rlhf_jax

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "feedback.md").read_text()
ROOMS = "feedback|losses|algos|ops|exact|envs|policies|sampling"
NAMED = set(re.findall(rf"`((?:{ROOMS})(?:\.\w+)+)`", PAGE))

# The survey's kinds of feedback, and what it says of collecting labels, fitting and learning.
ROWS = """comparison; comparison with indifference; best of K, ranking; critique (unary);
scalar signal (TAMER); policy-dependent (COACH); inter-temporal critique; demonstration;
improvement, correction; emergency stop, off switch; importance, saliency, gaze; feature trace;
similarity query (triplet); proxy reward (inverse reward design); initial state;
social behaviour (faces, gestures); natural language; several kinds at once; uncertainty;
disagreement; volume removal; mutual information; knowledge gradient; max regret; D-optimal;
diversity, batches; on-policy, age; exploration, dueling; query cost; query synthesis by planning;
maximum likelihood; ensemble on bootstrapped data; mean, pessimistic mean; sum over the segment;
tanh output; normalised scores; label smoothing; human models in the learner; heterogeneous users;
relabelling of a replay buffer; any RL with KL to a prior; non-stationary reward;
without a reward model; policy search by win counts; dueling; confidence ellipsoid;
error of the Bradley-Terry estimate; optimism, Thompson sampling; pessimism, offline;
reduction to a comparison oracle"""


def rows():
    """The cells of every row of every table, headers left out."""
    for table in re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE):
        for line in table.splitlines()[2:]:
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def found(name):
    """Whether `a.b.c`, relative to rlhf_jax, is a module or what a module holds."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(["rlhf_jax", *parts[:length]]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            thing = getattr(thing, part, None)
        return thing is not None
    return False


def test_every_name_on_the_page_is_there():
    assert len(NAMED) > 100
    assert [name for name in sorted(NAMED) if not found(name)] == []
    assert not found("feedback.values.nothing")
    assert not found("nothing.values")


def test_every_function_of_the_room_is_on_the_page():
    folder = Path(rlhf_jax.__file__).parent / "feedback"
    missing = []
    for path in sorted(folder.glob("[!_]*.py")):
        module = importlib.import_module(f"rlhf_jax.feedback.{path.stem}")
        names = {
            f"feedback.{path.stem}.{name}"
            for name, thing in inspect.getmembers(module, inspect.isfunction)
            if thing.__module__ == module.__name__ and not name.startswith("_")
        }
        missing += sorted(names - NAMED)
    assert missing == []


def test_every_test_on_the_page_is_there():
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 30
    assert [name for name in sorted(named) if f"def {name}(" not in sources] == []


def test_no_row_is_empty_and_none_of_the_survey_is_missing():
    table = list(rows())
    assert [row for row in table if not all(row)] == []
    first = {row[0] for row in table}
    assert [row for row in re.split(r";\s+", ROWS) if row not in first] == []
    # A row without a function says so; the seven columns of attributes have none.
    bare = [" ".join(row) for row in table if len(row) != 7 and "`" not in " ".join(row)]
    says_so = r"not here|by the caller|games\.md|labelling\.md"
    assert [row for row in bare if not re.search(says_so, row)] == []


@pytest.mark.long
def test_the_code_prints_what_the_page_shows(capsys):
    [block] = re.findall(r"```python\n(.*?)```\n\n    (.*?)\n", PAGE, re.DOTALL)
    code, shown = block
    with jax.default_prng_impl("rbg"):  # other draws, and half the time to compile
        exec(compile(code, "docs/feedback.md", "exec"), {})
    printed = capsys.readouterr().out.strip()
    words, numbers = re.sub(r"[\d.]+", "#", printed), re.findall(r"\d+\.\d+", printed)
    assert words == re.sub(r"[\d.]+", "#", shown)
    for now, then in zip(numbers, re.findall(r"\d+\.\d+", shown), strict=True):
        assert float(now) == pytest.approx(float(then), abs=0.011)
