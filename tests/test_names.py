"""Annotations say more than "callable", and a public name has one meaning in the library."""

import ast
from collections import defaultdict
from pathlib import Path

LIBRARY = Path(__file__).parent.parent / "rlhf_jax"
TREES = {
    str(path.relative_to(LIBRARY)): ast.parse(path.read_text()) for path in LIBRARY.rglob("*.py")
}
# A contract's function has the same name in every file that keeps the contract.
CONTRACTS = {"make_update", "make_objective", "examples"}
# These two answer the same questions about their kind of MDP by the same names.
MIRRORS = {"exact/finite_mdp.py", "exact/discounted_mdp.py"}
# Names of commands and their options, which nothing imports.
COMMANDS = "cli/"


def annotations(tree: ast.AST) -> list[ast.expr]:
    """Every annotation of arguments, returns, fields and variables."""
    found = []
    for node in ast.walk(tree):
        found += [getattr(node, name, None) for name in ("annotation", "returns")]
    return [each for each in found if isinstance(each, ast.expr)]


def bare_callables(tree: ast.AST) -> list[int]:
    """Lines of annotations with a `Callable` that says neither arguments nor result."""
    found = []
    for annotation in annotations(tree):
        said = [node.value for node in ast.walk(annotation) if isinstance(node, ast.Subscript)]
        found += [
            node.lineno
            for node in ast.walk(annotation)
            if isinstance(node, ast.Name) and node.id == "Callable" and node not in said
        ]
    return found


def test_no_annotation_is_a_bare_callable():
    assert {place: lines for place, tree in TREES.items() if (lines := bare_callables(tree))} == {}


def test_a_bare_callable_is_found_wherever_it_stands():
    source = """
class A(NamedTuple):
    init: Callable
def f(x: Callable[..., int], y: tuple[Callable, int] | None = None) -> Callable: ...
"""
    assert sorted(bare_callables(ast.parse(source))) == [3, 4, 4]


def test_a_public_function_or_class_has_one_meaning():
    homes = defaultdict(set)
    for place, tree in TREES.items():
        for node in [] if place.startswith(COMMANDS) else tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].add(place)
    several = {name: places for name, places in homes.items() if len(places) > 1}
    assert several.keys() >= CONTRACTS
    for name in CONTRACTS:
        del several[name]
    assert {name: places for name, places in several.items() if places != MIRRORS} == {}
