"""What stands where: the core needs no capability, no adapter and no command line."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "zs2"
COMMANDS = {"sample", "extend", "enhance", "evaluate", "inspect"}
BEYOND = {"zs2.shots", "zs2.cli", *(f"zs2.{name}" for name in COMMANDS)}
ADAPTERS = {"zs2.checkpoint.lora"}


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


def test_the_core_stands_alone():
    """Whatever the pipeline needs, however far one follows."""
    files, found, left = modules(), set(), ["zs2.pipeline"]
    while left:
        name = left.pop()
        found.add(name)
        left += [n for n in imports(files[name]) & files.keys() if n not in found and n != "zs2"]
    assert {"zs2.noise", "zs2.models.unet", "zs2.kernels.momentum_scan"} <= found
    assert not {".".join(name.split(".")[:2]) for name in found} & BEYOND
    assert files.keys() >= ADAPTERS
    assert not found & ADAPTERS


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
