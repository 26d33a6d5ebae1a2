"""The house rules that can be read off the source: who imports whom, lazily, in small files."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "systemscope"
MAX_LINES = 400
MAX_TEST_LINES = 500
EVERYONE = {"errors", "version"}

BELOW_COLLECTORS = {
    "bpfasm", "syscalls", "model", "elf", "bpf", "kernel", "programs", "processes",
}  # fmt: skip
STAGES = {"collectors", "symbolizer", "wire", "exporters", "importers"}
PROCESSES = {"model", "elf", "bpf", "kernel", "bpfasm", "syscalls"}

#: Package -> the packages it may know, besides itself and EVERYONE.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "version": set(),
    "bpfasm": set(),
    "syscalls": set(),
    "model": set(),
    "elf": set(),
    "bpf": {"bpfasm", "syscalls"},
    "kernel": {"bpf", "bpfasm", "syscalls"},
    "programs": {"bpfasm", "model"},
    "processes": PROCESSES,
    "collectors": BELOW_COLLECTORS,
    "symbolizer": {"elf", "processes", "model", "kernel", "syscalls"},
    "wire": {"model"},
    "exporters": {"model", "wire"},
    "importers": {"model", "wire"},
    # The public API joins the stages; the package's own face and the command line lead to them.
    "api": BELOW_COLLECTORS | STAGES,
    "cli": BELOW_COLLECTORS | STAGES | {"api"},
    "__init__": {"api", "model"},
    "__main__": {"cli"},
}

#: Third-party packages: where each may be imported, and whether that must be inside a function.
HOMES = {
    "elftools": {"elf"},
    "docopt": {"cli"},
    "pyroute2": {"processes"},
    "google": {"wire"},
    "capstone": {"cli", "bpfasm"},
}
CTYPES_HOMES = {"syscalls"}

SOURCES = sorted(PACKAGE.rglob("*.py"))


def package_of(path: Path) -> str:
    """``cli`` for systemscope/cli/main.py, ``api`` for systemscope/api.py."""
    first = path.relative_to(PACKAGE).parts[0]
    return first[: -len(".py")] if first.endswith(".py") else first


def imports(tree: ast.Module) -> list[tuple[str, int, bool]]:
    """(module, line, runs at import time) of every import in a file."""
    found: list[tuple[str, int, bool]] = []

    def visit(node: ast.AST, at_import: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend((alias.name, child.lineno, at_import) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, "imports are absolute"
                module = child.module or ""
                if module == "systemscope":
                    names = [f"systemscope.{alias.name}" for alias in child.names]
                    found.extend((name, child.lineno, at_import) for name in names)
                else:
                    found.append((module, child.lineno, at_import))
            function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            visit(child, at_import and not function and not typing_only)

    visit(tree, True)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_package_knows_only_those_below_it(path: Path) -> None:
    own = package_of(path)
    assert own in ALLOWED, f"{own} is no package of the table in docs/architecture.md"
    may = ALLOWED[own] | EVERYONE | {own}
    for module, line, at_import in imports(ast.parse(path.read_text())):
        where = f"{path.relative_to(ROOT)}:{line}"
        top, _, rest = module.partition(".")
        if top == "systemscope":
            assert not rest or rest.split(".")[0] in may, f"{where}: {own} may not import {module}"
        elif top in HOMES:
            assert own in HOMES[top], f"{where}: {top} belongs in {HOMES[top]}"
            assert not at_import, f"{where}: import {top} inside the function that needs it"
        elif top == "ctypes":
            assert own in CTYPES_HOMES, f"{where}: ctypes belongs in {CTYPES_HOMES}"
        elif top:
            standard = top in sys.stdlib_module_names if sys.version_info >= (3, 10) else True
            assert standard or top == "__future__", f"{where}: unexpected package {module}"


@pytest.mark.parametrize(
    "path",
    [*SOURCES, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "tools").rglob("*.py"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_file_is_small_enough_to_read(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    limit = MAX_TEST_LINES if ROOT / "tests" in path.parents else MAX_LINES
    assert lines <= limit, f"{lines} lines: split it"


def loaded_by(statement: str) -> set[str]:
    """The modules a fresh interpreter holds after ``statement``."""
    code = f"{statement}\nimport sys\nsys.stderr.write('\\n'.join(sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(ran.stderr.split("\n"))


def test_the_package_and_the_version_cost_nothing() -> None:
    modules = loaded_by("import systemscope.__main__, systemscope.cli.main as m; m.main(['-V'])")
    ours = {name for name in modules if name.startswith("systemscope")}
    assert ours == {
        "systemscope",
        "systemscope.__main__",
        "systemscope.cli",
        "systemscope.cli.main",
        "systemscope.cli.report",
        "systemscope.cli.exit_codes",
        "systemscope.errors",
        "systemscope.version",
    }
    assert not modules & {"docopt", "dataclasses", "ctypes", "elftools", "subprocess"}


def test_no_heavy_package_is_loaded_before_it_is_needed() -> None:
    modules = loaded_by("import systemscope.api, systemscope.cli.profile_cmd")
    heavy = {"docopt", "elftools", "google.protobuf", "capstone", "pyroute2", "asyncio"}
    assert not modules & heavy


def test_a_format_is_imported_when_it_is_written() -> None:
    modules = loaded_by("import systemscope.exporters.formats as f; f.by_path('x.html')")
    ours = {name for name in modules if name.startswith("systemscope.exporters.")}
    assert ours == {"systemscope.exporters.formats"}
    assert not modules & {"json", "gzip", "google.protobuf"}


def test_every_format_can_be_written() -> None:
    from systemscope.exporters.formats import formats

    names = [one.name for one in formats()]
    assert names == sorted(set(names))
    for one in formats():
        module = importlib.import_module(one.module)
        assert callable(module.write)
        assert callable(getattr(module, "write_difference", None)) is one.differences


def test_the_architecture_document_lists_every_package() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for package in sorted(p.parent.name for p in PACKAGE.glob("*/__init__.py")):
        assert f"| `{package}/`" in text, f"docs/architecture.md does not tell of {package}"
