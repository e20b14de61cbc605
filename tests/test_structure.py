"""The package stays small, its rooms import only downwards, and nothing in it runs what a file or a user gives."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "kdpl_utils"
# A room may import its own files and the rooms of the floors below.
FLOORS = (
    ("support", "choices"),
    ("clip",),
    ("front",),
    ("worlds", "learners", "plots"),
    ("experiments", "widgets", "checks"),
    ("apps",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
METHOD = [PACKAGE / f"{name}.py" for name in ("train", "distill", "prompts", "supervision", "vlm")]


def lines(paths) -> int:
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


def test_everything_stays_small():
    package = list(PACKAGE.rglob("*.py"))
    statements = sum(isinstance(node, ast.stmt) for path in package for node in ast.walk(tree_of(path)))
    # The goals are 6,500 lines, 4,000 statements and 7,000 lines of tests; until then, nothing may grow.
    sizes = {
        "kdpl_utils": (lines(package), 8850),
        "statements of kdpl_utils": (statements, 5450),
        "kdpl_utils/*.py": (lines(PACKAGE.glob("*.py")), 1000),
        "the method": (lines(METHOD), 500),
        "run.py": (lines([ROOT / "run.py"]), 150),
        "docs/*.py": (lines((ROOT / "docs").glob("*.py")), 350),
        "benchmarks/*.py": (lines((ROOT / "benchmarks").glob("*.py")), 700),
        "tests": (lines((ROOT / "tests").rglob("*.py")), 9950),
    }
    assert {name: size for name, size in sizes.items() if size[0] > size[1]} == {}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def files(package: Path) -> dict[str, ast.Module]:
    return {path.relative_to(package).as_posix(): tree_of(path) for path in sorted(package.rglob("*.py"))}


def room(file: str) -> str:
    name = file.split("/")[0].removesuffix(".py")
    return name if name in FLOOR else "front"


def imports(package: Path) -> list[tuple[str, str]]:
    """Return (importing file, imported file) for each relative import; those for types are left out."""
    trees = files(package)
    found = []
    for file, tree in trees.items():
        never = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
        for_types = {child for block in never for child in ast.walk(block)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level and node not in for_types:
                module = file.split("/")[: -node.level] + (node.module.split(".") if node.module else [])
                for alias in node.names:
                    places = [[*module, alias.name], [*module, alias.name, "__init__"], module, [*module, "__init__"]]
                    target = next((path for parts in places if (path := "/".join(parts) + ".py") in trees), "nowhere")
                    found.append((file, target))
    return found


# --- the rules: each returns a sentence for each place that breaks it -------------------------------------------------


def looking_up(package: Path) -> list[str]:
    """Rooms that import a room of their own floor or above; the package's own __init__ shows all of them."""
    return [
        f"{file} imports {target}"
        for file, target in imports(package)
        if file != "__init__.py" and room(file) != room(target) and FLOOR[room(target)] >= FLOOR[room(file)]
    ]


def packed_lines(package: Path) -> list[str]:
    """Assignments of several unrelated values in one statement; a swap and one function of two things are related."""
    found = []
    for file, tree in files(package).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and all(isinstance(x, ast.Tuple) for x in (node.value, node.targets[0])):
                values = [ast.unparse(value) for value in node.value.elts]
                is_swap = {ast.unparse(target) for target in node.targets[0].elts} == set(values)
                functions = {value.partition("(")[0].rpartition(".")[2] if "(" in value else "" for value in values}
                if not is_swap and (len(functions) > 1 or "" in functions):
                    found.append(f"{file}, line {node.lineno}: {ast.unparse(node)}")
    return found


RUNS_CODE = ("eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads", "torch.jit.load", "torch.hub.load")
RUNS_CODE_IF = {"shell": "True", "allow_pickle": "True", "trust_remote_code": "True", "weights_only": "False"}


def running_what_was_given(package: Path) -> list[str]:
    """Calls through which a file or a name could run code."""
    found = []
    for file, tree in files(package).items():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            given = {one.arg: ast.unparse(one.value) for one in call.keywords}
            called = ast.unparse(call.func)
            dangerous = any(given.get(word) == value for word, value in RUNS_CODE_IF.items())
            if called in RUNS_CODE or dangerous or (called == "torch.load" and "weights_only" not in given):
                found.append(f"{file}, line {call.lineno}: {called} may run what it is given")
    return found


@pytest.mark.parametrize("rule", [looking_up, packed_lines, running_what_was_given])
def test_the_package_keeps(rule):
    assert rule(PACKAGE) == []


def test_every_room_has_a_floor_and_every_file_a_docstring():
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} <= set(FLOOR)
    assert [name for name, tree in files(PACKAGE).items() if not ast.get_docstring(tree)] == []


BROKEN = {
    "a room below looks up": (looking_up, {"support/disk.py": "from ..vlm import VLM\n"}),
    "the front room looks into a world": (looking_up, {"vlm.py": "def f():\n    from .worlds.world import Split\n"}),
    "neighbours": (looking_up, {"learners/coop.py": "from ..worlds.world import Split\n"}),
    "two values in a line": (packed_lines, {"vlm.py": "a, b = b, a\nx, y = 1, 'two'\n"}),
    "a shell": (running_what_was_given, {"vlm.py": "subprocess.run(f'ls {name}', shell=True)\n"}),
    "a pickle": (running_what_was_given, {"vlm.py": "torch.load(path)\n"}),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_rule_is_noticed(case, tmp_path):
    rule, contents = BROKEN[case]
    package = tmp_path / "kdpl_utils"
    for file in ("vlm.py", "worlds/world.py", "support/disk.py", *contents):
        (package / file).parent.mkdir(parents=True, exist_ok=True)
        (package / file).write_text(contents.get(file, ""), encoding="utf-8")
    assert len(rule(package)) == 1
