"""What the source must never do with data: run it, unpickle it, hand it to a shell."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("evaluation", "predict", "ladder", "benchmarks")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "imp", "code"}
BUILTINS = {"eval", "exec", "compile", "__import__", "input"}
CALLS = {
    "os.system": "runs a shell",
    "os.popen": "runs a shell",
    "subprocess.getoutput": "runs a shell",
    "subprocess.getstatusoutput": "runs a shell",
    "yaml.load": "may make any object; evaluation.bounds.read_yaml",
    "yaml.load_all": "may make any object; evaluation.bounds.read_yaml",
    "yaml.unsafe_load": "makes any object",
    "yaml.full_load": "makes objects",
    "yaml.safe_load": "knows no bounds; evaluation.bounds.read_yaml",
    "pandas.read_pickle": "unpickles",
    "pd.read_pickle": "unpickles",
    "pd.eval": "evaluates",
    "tempfile.mktemp": "leaves a moment for another's file",
    "torch.load": "takes safetensors",
    "torch.hub.load": "runs a repository's code",
    "zipfile.extractall": "writes where the archive says",
    "tarfile.open": "writes where the archive says",
    "shutil.unpack_archive": "writes where the archive says",
}


def offences(tree: ast.AST, where: str) -> Iterator[str]:
    for node in ast.walk(tree):
        line = f"{where}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            names = [module] if module else [alias.name for alias in node.names]
            for name in names:
                if name.partition(".")[0] in MODULES:
                    yield f"{line}: imports {name}"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if called in BUILTINS:
            yield f"{line}: calls {called}"
        is_benchmark = where.startswith("benchmarks")
        if called in CALLS and not (is_benchmark and called == "yaml.safe_load"):
            yield f"{line}: {called} {CALLS[called]}"
        if called in ("np.load", "numpy.load") and given.get("allow_pickle") != "False":
            yield f"{line}: np.load without allow_pickle=False"
        if called.startswith("subprocess.") and given.get("shell", "False") != "False":
            yield f"{line}: a shell"
        if given.get("trust_remote_code") == "True":
            yield f"{line}: trust_remote_code"
        if called == "np.memmap" and given.get("mode") not in (None, "'r'", "'c'"):
            yield f"{line}: a memory map that writes"
        if called.endswith("Environment") and given.get("autoescape") != "True":
            yield f"{line}: a template that does not escape"
        loads = called.endswith(("AutoTokenizer.from_pretrained", "AutoConfig.from_pretrained"))
        says = "trust_remote_code" in given or None in given or is_benchmark
        if loads and not says:
            yield f"{line}: from_pretrained without trust_remote_code=False"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_runs_or_unpickles_what_it_reads(path: Path) -> None:
    where = path.relative_to(ROOT).as_posix()
    assert list(offences(ast.parse(path.read_text("utf-8")), where)) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from dill import loads",
        "eval(text)",
        "exec(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "subprocess.run(line, shell=True)",
        "os.system(line)",
        "AutoTokenizer.from_pretrained(name)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
    ],
)
def test_each_of_these_would_be_found(line: str) -> None:
    assert len(list(offences(ast.parse(line), "ladder/some.py"))) == 1
