"""The picture of the package: the method in the front room, everything else in rooms that only look down."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "kdpl_utils"

# A room may import the rooms of the floors below its own, and its own files.
FLOORS = (
    ("support",),
    ("towers",),
    ("front",),
    ("worlds", "learners", "plots"),
    ("experiments", "widgets", "checks"),
    ("apps",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MOST_FRONT_FILES = 10
MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FRONT_FILE = 250
MOST_LINES_OF_A_FUNCTION = 72
SAME_LINES = 6


class Import(NamedTuple):
    importer: str  # a file of the package, "learners/coop.py"
    imported: str
    name: str
    only_for_types: bool  # below "if TYPE_CHECKING:", which never runs
    at_start: bool  # when the module is loaded, not in a function


def files(package: Path) -> dict[str, ast.Module]:
    paths = sorted(path for path in package.rglob("*.py") if "_data" not in path.parts)
    return {path.relative_to(package).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def room(file: str) -> str:
    return file.split("/")[0] if "/" in file else "front"


def imports(package: Path) -> list[Import]:
    """Every import of the package's own modules, wherever in a file it stands."""
    trees = files(package)
    found = []
    for file, tree in trees.items():
        type_blocks = [
            node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        ]
        for_types = {child for block in type_blocks for child in ast.walk(block)}
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        in_functions = {child for function in functions for child in ast.walk(function)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom):
                continue
            module = _absolute(file, node, package.name)
            if module is None:
                continue
            for alias in node.names:
                target = _file_of(trees, [*module, alias.name]) or _file_of(trees, module)
                assert target, f"{file} imports {'.'.join(module)}.{alias.name}, which is not there"
                found.append(Import(file, target, alias.name, node in for_types, node not in in_functions))
    return found


def _absolute(file: str, node: ast.ImportFrom, package: str) -> list[str] | None:
    """The imported module as parts below the package; None for other packages."""
    module = node.module.split(".") if node.module else []
    if node.level == 0:
        return module[1:] if module[:1] == [package] else None
    folders = file.split("/")[:-1]
    return folders[: len(folders) - node.level + 1] + module


def _file_of(trees: dict[str, ast.Module], parts: list[str]) -> str | None:
    candidates = ("/".join(parts) + ".py", "/".join([*parts, "__init__.py"]))
    return next((candidate for candidate in candidates if candidate in trees), None)


# --- the rules: each returns the sentences about what breaks it -------------------------------------------------------


def looking_up(package: Path) -> list[str]:
    """Rooms that import a room of their own floor or above; the package's own __init__ shows all of them."""
    return [
        f"{one.importer} ({room(one.importer)}) imports {one.imported} ({room(one.imported)})"
        for one in imports(package)
        if one.importer != "__init__.py" and not one.only_for_types
        if room(one.importer) != room(one.imported)
        if FLOOR[room(one.imported)] >= FLOOR[room(one.importer)]
    ]


def circles(package: Path) -> list[str]:
    graph = {}
    for one in imports(package):
        if one.at_start and not one.only_for_types and one.importer != one.imported:
            graph.setdefault(one.importer, set()).add(one.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [" ← ".join(error.args[1])]
    return []


def private_names(package: Path) -> list[str]:
    return [
        f"{one.importer} imports {one.name} of {one.imported}"
        for one in imports(package)
        if one.name.startswith("_") and not one.name.startswith("__")
        if room(one.importer) != room(one.imported)
    ]


def too_large(package: Path) -> list[str]:
    sentences = []
    for file, tree in files(package).items():
        lines = len((package / file).read_text(encoding="utf-8").splitlines())
        most = MOST_LINES_OF_A_FRONT_FILE if room(file) == "front" else MOST_LINES_OF_A_FILE
        if lines > most:
            sentences.append(f"{file} has {lines} lines, more than {most}")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                length = node.end_lineno - node.lineno + 1
                if length > MOST_LINES_OF_A_FUNCTION:
                    sentences.append(f"{file}: {node.name} has {length} lines")
    front = [file for file in files(package) if room(file) == "front"]
    if len(front) > MOST_FRONT_FILES:
        sentences.append(f"{len(front)} files in the front room, more than {MOST_FRONT_FILES}: {front}")
    return sentences


def written_twice(package: Path) -> list[str]:
    """Six lines in a row, blank ones and imports aside, that stand in two places."""
    places = {}
    for file in files(package):
        lines = [line.strip() for line in (package / file).read_text(encoding="utf-8").splitlines() if line.strip()]
        for start in range(len(lines) - SAME_LINES + 1):
            window = tuple(lines[start : start + SAME_LINES])
            if not all(line.startswith(("from ", "import ")) for line in window):
                places.setdefault(window, []).append(file)
    return [f"{where}: {window[0]} …" for window, where in places.items() if len(where) > 1]


RUNS_CODE = ("eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads", "torch.jit.load", "torch.hub.load")
RUNS_CODE_IF = {"shell": "True", "allow_pickle": "True", "trust_remote_code": "True", "weights_only": "False"}


def running_what_was_given(package: Path) -> list[str]:
    """Calls through which a file or a name could run code; a pickle may be read by an unpickler of our own."""
    sentences = []
    for file, tree in files(package).items():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            called = ast.unparse(call.func)
            given = {one.arg: ast.unparse(one.value) for one in call.keywords}
            own_unpickler = given.get("pickle_module") == "_TENSORS_ONLY"
            dangerous = [word for word, value in RUNS_CODE_IF.items() if given.get(word) == value and not own_unpickler]
            if called in RUNS_CODE or dangerous or (called == "torch.load" and "weights_only" not in given):
                sentences.append(f"{file}, line {call.lineno}: {called} may run what it is given")
    return sentences


RULES = (looking_up, circles, private_names, too_large, written_twice, running_what_was_given)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps(rule):
    assert rule(PACKAGE) == []


def test_every_room_has_a_floor_and_a_sentence():
    rooms = {room(file) for file in files(PACKAGE)}
    assert rooms == set(FLOOR)
    without = [name for name, tree in files(PACKAGE).items() if not ast.get_docstring(tree)]
    assert without == []


def test_the_zero_shot_sentence_is_written_once():
    """Two places that both name the baseline come to name two baselines; data sets have sentences of their own."""
    texts = {file: (PACKAGE / file).read_text(encoding="utf-8") for file in files(PACKAGE)}
    places = [file for file, text in texts.items() if '= "a photo of a {}."' in text or '("a photo of a {}.",)' in text]
    assert places == ["vlm.py"]


# --- and each rule notices -------------------------------------------------------------------------------------------

SIX_LINES = "".join(f"x = {i}\n" for i in range(SAME_LINES))
BROKEN = {
    "a room below looks up": (looking_up, {"support/disk.py": "from ..vlm import VLM\n"}),
    "the front room looks into a world": (looking_up, {"vlm.py": "def f():\n    from .worlds.world import Split\n"}),
    "neighbours": (looking_up, {"learners/coop.py": "from kdpl_utils.worlds.world import Split\n"}),
    "a circle": (circles, {"vlm.py": "from .train import fit\n", "train.py": "from .vlm import VLM\n"}),
    "a private name": (private_names, {"apps/cli.py": "from ..vlm import _secret\n"}),
    "a copy": (written_twice, dict.fromkeys(("vlm.py", "train.py"), SIX_LINES)),
    "a long function": (
        too_large,
        {"vlm.py": "def f():\n" + "".join(f"    print({i})\n" for i in range(MOST_LINES_OF_A_FUNCTION))},
    ),
    "a long file": (too_large, {"vlm.py": "\n" * (MOST_LINES_OF_A_FRONT_FILE + 1)}),
    "a shell": (running_what_was_given, {"vlm.py": "subprocess.run(f'ls {name}', shell=True)\n"}),
    "a pickle": (running_what_was_given, {"vlm.py": "torch.load(path)\n"}),
    "an array of pickles": (running_what_was_given, {"vlm.py": "numpy.load(path, allow_pickle=True)\n"}),
    "a name that is run": (running_what_was_given, {"vlm.py": "eval(name)\n"}),
    "a crowded front room": (too_large, {f"method_{i}.py": "" for i in range(MOST_FRONT_FILES + 1)}),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_rule_is_noticed(case, tmp_path):
    rule, contents = BROKEN[case]
    package = tmp_path / "kdpl_utils"
    for file in ("vlm.py", "train.py", "worlds/world.py", "support/disk.py", *contents):
        (package / file).parent.mkdir(parents=True, exist_ok=True)
        (package / file).write_text(contents.get(file, ""), encoding="utf-8")
    assert len(rule(package)) == 1


def test_what_only_types_need_is_no_import(tmp_path):
    package = tmp_path / "kdpl_utils"
    (package / "worlds").mkdir(parents=True)
    (package / "worlds/world.py").write_text("from ..vlm import check_names\n")
    (package / "vlm.py").write_text("if TYPE_CHECKING:\n    from .worlds.world import Split\n")
    assert looking_up(package) == circles(package) == []
