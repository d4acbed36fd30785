"""The house rules of the design, section 1, read from the source itself."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WINGS = ("train", "convert", "device_app", "benchmarks", "recipes")
ROOMS = ("edge_ct", *WINGS)
HEAVY = frozenset({"tensorflow", "keras", "tf_keras", "sklearn", "pandas", "matplotlib", "statsmodels", "scipy"})
# The base dependencies by their import names, the device's own alternative of them, and DICOM where there is some.
DEVICE = frozenset(
    {"numpy", "cv2", "click", "isal", "msgspec", "ai_edge_litert", "tflite_runtime", "pydicom", "cryptography"}
)
NEWER_PYTHON = frozenset({"_sha2"})  # modules of the standard library since Python 3.12
WEB = frozenset({"flask", "waitress", "segno", "werkzeug"})  # the web page's, and nobody else's
DICOM = frozenset({"pynetdicom", "highdicom", "dicomweb_client", "dicomanonymizer", "requests"})  # the node's alone
OWN = {
    "edge_ct.device_app.web": WEB,
    "edge_ct.device_app.dicom": DICOM,
    "edge_ct.device_app.cluster": frozenset({"pyarrow"}),
    "edge_ct.engines.openvino_interpreter": frozenset({"openvino"}),
    "edge_ct.system.ray_cluster": frozenset({"ray"}),
}


def files(room: str) -> list[Path]:
    return sorted(path for path in (ROOT / room).rglob("*.py") if "results" not in path.parts)


ALL = [path for room in ROOMS for path in files(room)]


def module_of(path: Path) -> str:
    """edge_ct/slices.py -> edge_ct.slices; train/fit.py -> edge_ct.train.fit; train/__init__.py -> edge_ct.train."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "edge_ct" else ("edge_ct", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in ALL}


def wing_of(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] in WINGS:  # as a checkout would let one write
        return parts[0]
    return parts[1] if parts[0] == "edge_ct" and len(parts) > 1 and parts[1] in WINGS else None


class _WithoutTypeChecking(ast.NodeTransformer):
    def visit_If(self, node: ast.If) -> ast.AST | None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return None
        return self.generic_visit(node)


def imports(path: Path, typing: bool = True) -> Iterator[tuple[str, int]]:
    """Every imported module with its level (0 is absolute), wherever in the file: (absolute name, level).

    typing: whether imports below `if TYPE_CHECKING` count.

    `from edge_ct import slices` gives edge_ct and edge_ct.slices; names that are no modules do no harm.
    """
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not typing:
        tree = _WithoutTypeChecking().visit(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            yield base, node.level
            yield from ((f"{base}.{alias.name}", node.level) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.args[0].value, 0


def reached_from(starts: list[str]) -> dict[str, str]:
    """Modules of the house that are reached from `starts` by imports, lazy ones included -> the one that imports it."""
    found, waiting = dict.fromkeys(starts, ""), list(starts)
    while waiting:
        module = waiting.pop()
        for name, _ in imports(MODULES[module]):
            if name in MODULES and name not in found:
                found[name] = module
                waiting.append(name)
    return found


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_rooms_are_there() -> None:
    assert len(ALL) > 40
    assert {"edge_ct", "edge_ct.slices", "edge_ct.train.fit", "edge_ct.device_app.judging.judge"} <= MODULES.keys()


def test_imports_are_read_right() -> None:
    found = dict(imports(ROOT / "device_app" / "judging" / "judge.py"))
    assert found["edge_ct.classifier"] == 0
    assert found["edge_ct.imaging.slice_files"] == 0
    found = dict(imports(ROOT / "edge_ct" / "classifier.py"))
    assert found["edge_ct.runtime"] == 1
    lazily = {name for name, _ in imports(ROOT / "device_app" / "classify" / "commands.py")}
    assert "edge_ct.device_app.classify.results" in lazily


@pytest.mark.parametrize("path", ALL, ids=named)
def test_no_wing_imports_another_and_the_floor_none(path: Path) -> None:
    own = wing_of(module_of(path))
    others = {name for name, _ in imports(path) if wing_of(name) not in (None, own)}
    assert others == set()


@pytest.mark.parametrize("path", [path for wing in WINGS for path in files(wing)], ids=named)
def test_imports_inside_a_wing_are_relative(path: Path) -> None:
    own = wing_of(module_of(path))
    assert {name for name, level in imports(path) if wing_of(name) == own and level == 0} == set()


@pytest.mark.parametrize("path", [path for wing in WINGS for path in files(wing)], ids=named)
def test_a_wing_names_the_floor_by_its_name(path: Path) -> None:
    """`from .. import slices` would work in a wheel and fail in a checkout; a side room may go up to its wing."""
    depth = len(path.relative_to(ROOT).parts) - 1
    assert {name for name, level in imports(path) if level > depth} == set()


def test_the_device_reaches_nothing_heavy() -> None:
    """By following imports through the source, those inside functions too."""
    device = [name for name in MODULES if wing_of(name) == "device_app"]
    reached = reached_from(device)
    assert {"edge_ct.classifier", "edge_ct.dicom", "edge_ct.runtime", "edge_ct.system.files"} <= reached.keys()
    assert reached.keys() & {"edge_ct.metrics", "edge_ct.dataset", "edge_ct.run"} == set()
    for module in reached:
        tops = {name.split(".")[0] for name, _ in imports(MODULES[module])}
        assert tops & HEAVY == set(), module
        allowed = DEVICE.union(*(own for room, own in OWN.items() if module.startswith(room)))
        assert tops - allowed - {"edge_ct", "__future__"} - sys.stdlib_module_names - NEWER_PYTHON == set(), module


def test_the_device_imports_nothing_heavy() -> None:
    """By importing it, in a fresh interpreter."""
    modules = [
        "classify.commands",
        "judging.judge",
        "heatmaps.heatmap",
        "worklist.worklist",
        "worklist.commands",
        "heatmaps.evidence",
        "watch.hot_folder",
        "maintenance.doctor",
    ]
    code = "".join(f"import edge_ct.device_app.{name}\n" for name in modules) + "import edge_ct.classifier, sys\n"
    code += "from edge_ct.runtime import interpreter_class\ninterpreter_class()\nprint(*sys.modules)"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {name.split(".")[0] for name in listed.stdout.split()}
    assert {"edge_ct", "ai_edge_litert", "cv2"} <= loaded
    assert loaded & (HEAVY | {"PIL", "pydicom", "torch", "jax", "openvino", "ray", "pyarrow"}) == set()


def test_help_imports_no_framework() -> None:
    code = "import sys\nfrom edge_ct import cli\nassert cli.run(['--help']) == 0\n"
    code += "early = [name for name in sys.modules if name.endswith('commands') and name.startswith('edge_ct')]\n"
    code += "for name in cli.COMMANDS:\n    assert cli.run([name, '--help']) == 0\n"
    code += "print('LOADED', *early, '|', *sys.modules)"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    early, _, loaded = listed.stdout.rpartition("LOADED ")[2].partition("|")
    assert early.split() == []
    assert {name.split(".")[0] for name in loaded.split()} & HEAVY == set()


def test_on_the_floor_three_files_alone_use_statistics_and_plotting() -> None:
    users = {
        path.name
        for path in files("edge_ct")
        if {name.split(".")[0] for name, _ in imports(path)} & (HEAVY - {"tensorflow", "keras", "tf_keras"})
    }
    assert users == {"metrics.py", "splits.py", "plotting.py"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_plots_through_one_module(room: str) -> None:
    users = [named(path) for path in files(room) if "matplotlib" in {name.split(".")[0] for name, _ in imports(path)}]
    assert len(users) <= 1


def test_one_module_uses_tf_keras() -> None:
    users = [named(path) for path in ALL if "tf_keras" in {name.split(".")[0] for name, _ in imports(path)}]
    assert users == ["convert/shrink/tf_keras_twin.py"]


def test_no_framework_on_the_floor() -> None:
    for path in files("edge_ct"):
        assert {name.split(".")[0] for name, _ in imports(path)} & {"tensorflow", "keras", "tf_keras"} == set(), path


@pytest.mark.parametrize("path", ALL, ids=named)
def test_no_module_is_over_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_no_folder_holds_more_than_20_modules() -> None:
    counts = Counter(path.parent for path in ALL if path.name != "__init__.py")
    assert {named(folder): count for folder, count in counts.items() if count > 20} == {}


@pytest.mark.parametrize("room", ROOMS)
def test_no_module_name_is_used_twice_in_a_wing(room: str) -> None:
    """`commands.py`, one for each command or stage, is the exception."""
    names = Counter(path.name for path in files(room) if path.name not in ("__init__.py", "__main__.py", "commands.py"))
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_wing_has_one_plotting_module(room: str) -> None:
    users = {
        named(path)
        for path in files(room)
        if {name.split(".")[0] for name, _ in imports(path)} & {"matplotlib"}
        # Several modules of one package that is called `plots` count as one.
        and "plots" not in path.parent.parts
    }
    assert len(users) <= 1, users


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions count too: they hide a circle and do not open it."""
    edges = {module: _imported_modules(module) for module in MODULES}
    circles, settled = [], set[str]()

    def visit(module: str, trail: list[str]) -> None:
        if module in trail:
            circles.append(" -> ".join([*trail[trail.index(module) :], module]))
        elif module not in settled:
            for other in sorted(edges[module]):
                visit(other, [*trail, module])
            settled.add(module)

    for module in sorted(edges):
        visit(module, [])
    assert circles == []


def _imported_modules(module: str) -> set[str]:
    """The modules of the project that a module needs at runtime; imports for type checks are left out."""
    found = {name for name, _ in imports(MODULES[module], typing=False) if name in MODULES}
    # `from .zoo import build` names the package and its module: only the module is needed.
    packages = {name for name in found if any(other.startswith(name + ".") for other in found)}
    return found - packages - {module}


@pytest.mark.parametrize("path", ALL, ids=named)
def test_environment_is_read_at_the_door_alone(path: Path) -> None:
    """By cli.py and the wings' command modules."""
    if path.name.endswith(("commands.py", "command_options.py")) or path == ROOT / "edge_ct" / "cli.py":
        return
    readers = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "putenv"):
            readers.append(node.lineno)
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            readers.extend(node.lineno for alias in node.names if alias.name in ("environ", "getenv"))
    assert readers == []


@pytest.mark.parametrize("path", ALL, ids=named)
def test_every_file_says_what_it_is_for(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", "?", ":"))


def test_packaging_names_every_package() -> None:
    """A folder below a room needs a line of its own in pyproject.toml."""
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {str(path.parent.relative_to(ROOT)) for path in ALL}
    assert all((ROOT / folder / "__init__.py").is_file() for folder in folders)
    names = {folder: module_of(ROOT / folder / "__init__.py") for folder in folders}
    assert tool["package-dir"] == {name: folder for folder, name in names.items()}
    assert sorted(tool["packages"]) == sorted(tool["package-dir"])
