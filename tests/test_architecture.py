"""What stands where: the core needs no capability, no adapter and no command line."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "zs2"
CORE = [
    *("pipeline", "shot", "condition", "denoise", "samplers", "schedule", "noise", "attention"),
    *("draws", "timeline", "estimate", "weights", "graph"),
    *(f"models.{path.stem}" for path in (PACKAGE / "models").glob("[a-z]*.py")),
    *(f"kernels.{path.stem}" for path in (PACKAGE / "kernels").glob("[a-z]*.py")),
]
BEYOND = {"zs2.shots", "zs2.cli", "zs2.sample", "zs2.inspect"}


def imports(file: Path) -> set[str]:
    """The modules of zs2 that a file imports, read and not run."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "zs2":
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names if name.name.split(".")[0] == "zs2"}
    return found


def modules() -> dict[str, Path]:
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        names[".".join(parts).removesuffix(".__init__")] = path
    return names


@pytest.mark.parametrize("name", CORE)
def test_the_core_stands_alone(name):
    used = imports(PACKAGE / (name.replace(".", "/") + ".py"))
    assert not {".".join(module.split(".")[:2]) for module in used} & BEYOND


def test_no_capability_knows_the_command_line():
    for path in (PACKAGE / "shots").glob("*.py"):
        used = {".".join(module.split(".")[:2]) for module in imports(path)}
        assert not used & (BEYOND - {"zs2.shots"})


def test_no_module_needs_itself():
    """Imports run one way: following them never comes back."""
    files = modules()
    arrows = {name: imports(path) & files.keys() for name, path in files.items()}
    arrows["zs2"] = set()  # what it imports, it imports at first use
    done: set[str] = set()

    def follow(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above, name))
        if name not in done:
            for needed in sorted(arrows[name] - {"zs2"}):
                follow(needed, (*above, name))
            done.add(name)

    for name in files:
        follow(name, ())
    assert done == files.keys()
