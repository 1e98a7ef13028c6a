"""The rules of the house, held over every file that git tracks."""

from __future__ import annotations

import ast
import hashlib
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("pse", "egs", "utils", "tools")
BANNED_IMPORTS = {"pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "torchaudio"}
# Calls that run what a file or a string says; kaldiio's readers run commands and load pickles.
BANNED_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load",
    "torch.save", "kaldiio.load_mat", "kaldiio.load_scp", "kaldiio.load_ark", "subprocess.getoutput",
}  # fmt: skip


def git(*words: str) -> list[str]:
    command = ["git", "-C", str(ROOT), *words]
    return [line for line in subprocess.check_output(command).decode().split("\0") if line]


@pytest.fixture(scope="session")
def tracked() -> list[Path]:
    """The files that git tracks and that are there."""
    return [ROOT / name for name in git("ls-files", "-z") if (ROOT / name).is_file()]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def of_product(files: list[Path], suffix: str) -> list[Path]:
    return [f for f in files if f.suffix == suffix and f.relative_to(ROOT).parts[0] in PRODUCT]


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def unsafe(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what) of everything in a module that could run what a file says."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            yield from ((node.lineno, name) for name in names if name.split(".")[0] in BANNED_IMPORTS)
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        keywords = {k.arg: k.value for k in node.keywords}
        if name in BANNED_CALLS or name.endswith(".extractall"):
            yield node.lineno, name
        if name in ("np.load", "numpy.load") and not _is(keywords.get("allow_pickle"), False):
            yield node.lineno, f"{name} without allow_pickle=False"
        if name in ("torch.load", "torch.serialization.load") and not _is(keywords.get("weights_only"), True):
            yield node.lineno, f"{name} without weights_only=True"
        if "shell" in keywords and not _is(keywords["shell"], False):
            yield node.lineno, "shell=True"
        if "weights_only" in keywords and _is(keywords["weights_only"], False):
            yield node.lineno, "weights_only=False"


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from marshal import loads", "eval(x)", "yaml.load(f)", "torch.load(f)", "np.load(f)",
        "torch.load(f, weights_only=False)", "torch.serialization.load(f, weights_only=flag)",
        "np.load(f, allow_pickle=True)", "a.b.extractall()", "run(x, shell=True)", "run(x, shell=y)", "os.system(x)",
        "kaldiio.load_scp(x)",
    ],
)  # fmt: skip
def test_the_search_for_unsafe_code_finds_it(code):
    assert list(unsafe(ast.parse(code)))


def test_no_python_runs_what_a_file_says(tracked):
    files = of_product(tracked, ".py")
    found = [f"{named(f)}:{line} {what}" for f in files for line, what in unsafe(ast.parse(f.read_text("utf-8")))]
    assert found == [] and files


def test_no_shell_evaluates_or_sources_what_a_variable_says(tracked):
    found = []
    for file in of_product(tracked, ".sh"):
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
            code = line.split(" # ")[0].strip()
            sources = re.match(r"(?:source|\.)\s+(.*)", code)
            if re.search(r"(?:^|[;&|(]\s*)eval\b", code) or (sources and not re.search(r"/?[\w-]+\.sh\"?$", code)):
                found.append(f"{named(file)}:{number} {line}")
    assert found == []


def test_there_are_no_symbolic_links():
    assert [row for row in git("ls-files", "-s", "-z") if row.startswith("120000")] == []


def test_no_two_files_are_the_same(tracked):
    by_digest = defaultdict(list)
    for file in tracked:
        if file.stat().st_size > 100 or file.name != "__init__.py":
            by_digest[hashlib.sha256(file.read_bytes()).hexdigest()].append(named(file))
    assert [names for names in by_digest.values() if len(names) > 1] == []


def test_files_with_a_shebang_are_executable(tracked):
    modes = {row.split("\t")[1]: row[:6] for row in git("ls-files", "-s", "-z")}
    scripts = [named(f) for f in tracked if f.read_bytes()[:2] == b"#!"]
    assert [s for s in scripts if modes[s] != "100755"] == [] and scripts


def test_files_and_functions_are_short(tracked):
    files = [f for f in tracked if f.suffix in (".py", ".sh")]
    lines = {named(f): len(f.read_text("utf-8").splitlines()) for f in files}
    assert {name: n for name, n in lines.items() if n > 500} == {}
    assert {name: n for name, n in lines.items() if name.endswith("/run.sh") and n > 80} == {}
    package = sorted(n for name, n in lines.items() if name.startswith("pse/"))
    assert statistics.median(package) <= 150 and package[int(0.9 * len(package))] <= 350
    sizes = []
    for file in of_product(tracked, ".py"):
        nodes = ast.walk(ast.parse(file.read_text("utf-8")))
        sizes += [n.end_lineno - n.lineno + 1 for n in nodes if isinstance(n, ast.FunctionDef)]
    assert sorted(sizes)[int(0.9 * len(sizes))] <= 45


def text_of(file: Path) -> str | None:
    try:
        return file.read_text("utf-8")
    except UnicodeDecodeError:
        return None


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("unfinished work", r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b"),
        # Fault tests attack with such paths; no other file needs one.
        ("a path of one machine", r"(?<![\w./~$}>)*-])/(?:work|root|home|tmp)(?:/|\b(?=[\"'`\s]))"),
    ],
    ids=["unfinished work", "paths of one machine"],
)
def test_no_file_holds(tracked, what, pattern):
    found = []
    attacks = ROOT / "tests" / "fault"
    for file in (f for f in tracked if attacks not in f.parents):
        for number, line in enumerate((text_of(file) or "").splitlines(), 1):
            if re.search(pattern, line):
                found.append(f"{named(file)}:{number} {line.strip()[:80]}")
    assert found == [], what


def public_functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and not item.name.startswith("_"):
                    yield f"{node.name}.{item.name}", item


def test_public_functions_have_docstrings_and_annotations(tracked):
    found = []
    for file in tracked:
        if file.suffix != ".py" or file.relative_to(ROOT).parts[0] != "pse":
            continue
        for name, node in public_functions(ast.parse(file.read_text("utf-8"))):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            arguments += [a for a in (node.args.vararg, node.args.kwarg) if a]
            bare = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
            lacks = ["a docstring"] * (ast.get_docstring(node) is None) + ["a return type"] * (node.returns is None)
            lacks += [f"the type of {a}" for a in bare]
            if lacks:
                found.append(f"{named(file)}:{node.lineno} {name} lacks {', '.join(lacks)}")
    assert found == []


def test_python_files_pass_ruff(tracked):
    files = [str(f) for f in tracked if f.suffix == ".py"]
    command = [sys.executable, "-m", "ruff", "check", "--quiet", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_shell_files_pass_shellcheck(tracked):
    scripts = [str(f) for f in tracked if f.suffix == ".sh" or f.read_bytes().startswith(b"#!/usr/bin/env bash")]
    program = str(Path(sys.executable).with_name("shellcheck"))
    command = [program, "-x", "-P", "SCRIPTDIR", *scripts]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
