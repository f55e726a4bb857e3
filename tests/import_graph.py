"""Who imports whom, read off the sources: for the test of the layers and for .ci/changed.py."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "rlhf_jax"


def source_files(root: Path) -> list[Path]:
    """Every Python file of the library and of the experiments."""
    return sorted([*(root / PACKAGE).rglob("*.py"), *(root / "experiments").rglob("*.py")])


def module_name(path: Path, root: Path) -> str:
    """rlhf_jax/ops/kl.py -> rlhf_jax.ops.kl; a package is named after its folder."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, root: Path) -> Iterator[tuple[str, int]]:
    """Absolute name and line of everything a file imports: `from a import b` gives `a.b`."""
    package = module_name(path, root).split(".")
    if path.name != "__init__.py":
        package.pop()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = [*above, *([node.module] if node.module else [])]
            yield from ((".".join([*base, alias.name]), node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else None
            name = node.func.id if isinstance(node.func, ast.Name) else name
            first = node.args[0] if node.args else None
            if name in ("import_module", "__import__") and isinstance(first, ast.Constant):
                yield str(first.value), node.lineno


def reachable(module: str, graph: dict[str, set[str]]) -> set[str]:
    """Every name a module imports, directly or through others."""
    seen, todo = set(), [module]
    while todo:
        for name in graph.get(todo.pop(), ()):
            if name not in seen:
                seen.add(name)
                todo.append(name)
    return seen


def import_graph(root: Path) -> dict[str, set[str]]:
    """Module -> what Python runs when it is imported, the packages above each name included."""
    paths = {module_name(path, root): path for path in source_files(root)}
    graph = {}
    for module, path in paths.items():
        names = {name for name, _ in imports(path, root)} | {module}
        parents = {".".join(name.split(".")[:i]) for name in names for i in range(1, 9)}
        graph[module] = (names | parents) - {module}
    return graph
