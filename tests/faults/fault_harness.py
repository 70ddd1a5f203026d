"""Runs commands in forked processes, does them harm, and judges what the next ones make of it."""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")
"""What a process does with files, as Python's audit hooks name it."""

PATIENCE = 120.0
"""Seconds after which a command counts as hanging."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    """Exit status; minus the number of the signal that ended it."""
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """What is wrong with how it ended, apart from what it made; empty where nothing is."""
        if "Traceback" in self.err or "Error in sys.excepthook" in self.err:
            return f"traceback: {self.err[-1500:]}"
        told = [line for line in self.err.splitlines() if line.startswith("ladder: ")]
        if self.code in (0, 85) or self.code < 0:
            return ""
        if self.code == 1:
            return f"an error that nobody foresaw: {self.err[-1500:]}"
        return "" if len(told) == 1 else f"{len(told)} lines of error: {self.err[-1500:]}"

    @property
    def line(self) -> str:
        """The one line of its error."""
        return next((x for x in self.err.splitlines() if x.startswith("ladder: ")), "")


@dataclass
class Process:
    """A forked process that runs a command, or a function."""

    pid: int
    folder: Path
    status: int | None = None

    def wait(self, seconds: float = PATIENCE) -> Done:
        """Its end; kills it where that does not come."""
        deadline = time.monotonic() + seconds
        while self.status is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                self.status = status
            elif time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise AssertionError(f"a command hangs: {self.read('err')[-1500:]}")
            else:
                time.sleep(0.003)
        code = os.waitstatus_to_exitcode(self.status)
        done = Done(code, self.read("out"), self.read("err"))
        shutil.rmtree(self.folder, ignore_errors=True)
        return done

    @property
    def has_ended(self) -> bool:
        """Whether it has, without waiting."""
        if self.status is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = status if found else None
        return self.status is not None

    def read(self, name: str) -> str:
        """What it has said so far."""
        path = self.folder / name
        return path.read_text(errors="replace") if path.is_file() else ""

    def until_stopped(self, seconds: float = PATIENCE) -> bool:
        """Whether it stopped itself (SIGSTOP) rather than ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
            if found and os.WIFSTOPPED(status):
                return True
            if found:
                self.status = status
                return False
            time.sleep(0.003)
        raise AssertionError("a command hangs")


def waited(processes: Sequence[Process], patience: float = 5.0) -> list[Done]:
    """The ends of ranks; where one ends badly the others are ended, as torchrun and srun do."""
    deadline = time.monotonic() + PATIENCE
    ending: float | None = None
    while any(process.status is None for process in processes):
        for process in processes:
            if process.status is None and (found := os.waitpid(process.pid, os.WNOHANG))[0]:
                process.status = found[1]
        now = time.monotonic()
        if ending is None and any(process.status for process in processes):
            ending = now + patience
            for process in processes:
                if process.status is None:
                    os.kill(process.pid, signal.SIGTERM)
        if now > min(deadline, ending or deadline):
            for process in processes:
                if process.status is None:
                    os.kill(process.pid, signal.SIGKILL)
            assert now < deadline, "ranks hang"
            ending = deadline
        time.sleep(0.003)
    return [process.wait() for process in processes]


def start(
    what: Sequence[object] | Callable[[], object],
    watched: Path | None = None,
    at: int = 0,
    number: int = signal.SIGKILL,
    environment: Mapping[str, str] | None = None,
) -> Process:
    """Start a command of ladder, or a function, in a fork of this process.

    It sends itself the signal `number` at its `at`-th access to a file below `watched`.
    """
    folder = Path(tempfile.mkdtemp(prefix="fault-"))
    pid = os.fork()
    if pid:
        return Process(pid, folder)
    code = 70
    try:
        for name, descriptor in (("out", 1), ("err", 2)):
            opened = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(opened, descriptor)
        sys.stdout = os.fdopen(1, "w", buffering=1)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        os.environ.update(environment or {})
        count = 0

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal count
            if event in EVENTS and str(arguments[0]).startswith(str(watched)):
                count += 1
                if count == at:
                    os.kill(os.getpid(), number)

        if watched is not None:
            sys.addaudithook(hook)
        if callable(what):
            code = _called(what)
        else:
            from ladder.cli import main

            sys.argv = ["ladder", *map(str, what)]
            code = main([str(word) for word in what])
        if watched is not None:
            (folder / "accesses").write_text(str(count))
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _called(function: Callable[[], object]) -> int:
    """Run a function as `ladder` runs its commands: a user's mistake is one line and status 2."""
    from evaluation.files import InputError

    try:
        function()
    except InputError as error:
        print(f"ladder: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def run(what: Sequence[object] | Callable[[], object], **options: object) -> Done:
    """Start and wait."""
    return start(what, **options).wait()  # type: ignore[arg-type]


def accesses(
    what: Sequence[object] | Callable[[], object],
    watched: Path,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, float]:
    """How often an undisturbed command touches files below `watched`, and its seconds."""
    begin = time.monotonic()
    process = start(what, watched, environment=environment)
    while not (process.folder / "accesses").is_file() or not process.read("accesses"):
        assert time.monotonic() < begin + PATIENCE, process.read("err")
        time.sleep(0.003)
    found, seconds = int(process.read("accesses")), time.monotonic() - begin
    done = process.wait()
    assert done.code == 0, done.err
    return found, seconds


# ----- harm to files


def truncate(path: Path, draw: random.Random) -> None:
    """Cut a file short."""
    os.truncate(path, draw.randrange(max(1, path.stat().st_size)))


def flip(path: Path, draw: random.Random) -> None:
    """Change one bit, and neither size nor time."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    if not content:
        return
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def blank(path: Path, draw: random.Random) -> None:
    """Zero a part of a file, as a power cut does on some file systems."""
    size = path.stat().st_size
    begin = draw.randrange(max(1, size))
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(bytes(min(4096, size - begin)))


def empty(path: Path, draw: random.Random) -> None:
    """Leave nothing in a file."""
    os.truncate(path, 0)


def remove(path: Path, draw: random.Random) -> None:
    """Remove a file."""
    path.unlink()


HARMS: tuple[Callable[[Path, random.Random], None], ...] = (flip, truncate, blank, empty, remove)


# ----- verdicts


@dataclass
class Verdicts:
    """What came of all faults."""

    rows: list[dict[str, object]] = field(default_factory=list)

    def add(self, stage: str, fault: str, verdict: str, detail: str = "") -> None:
        """Keep one: `same`, `refused` (then mended as told), `lost`, `wrong`, `rude` or `hung`."""
        self.rows.append({"stage": stage, "fault": fault, "verdict": verdict, "detail": detail})
        if verdict not in ("same", "refused"):
            print(f"!! {stage}, {fault}: {verdict}: {detail}", flush=True)

    def counts(self) -> dict[str, dict[str, dict[str, int]]]:
        """Numbers of verdicts by stage and fault."""
        found: dict[str, dict[str, dict[str, int]]] = {}
        for row in self.rows:
            own = found.setdefault(str(row["stage"]), {}).setdefault(str(row["fault"]), {})
            own[str(row["verdict"])] = own.get(str(row["verdict"]), 0) + 1
        return found

    @property
    def bad(self) -> list[dict[str, object]]:
        """Those that must not be."""
        return [row for row in self.rows if row["verdict"] not in ("same", "refused")]


def judged(
    verdicts: Verdicts,
    stage: str,
    fault: str,
    again: Callable[[], Done],
    differs: Callable[[], str],
    folder: Path,
    note: str = "",
) -> None:
    """Run the next command until it ends well, mending as it says, and judge what it made.

    `differs` names what of that is not as it must be.
    """
    refusals: list[str] = []
    for _ in range(5):
        try:
            done = again()
        except AssertionError as error:
            verdicts.add(stage, fault, "hung", f"{note} {error}")
            return
        if done.complaint:
            verdicts.add(stage, fault, "rude", f"{note} {done.complaint}")
            return
        if done.code == 0:
            if other := differs():
                verdicts.add(stage, fault, "wrong", f"{note} {refusals} {other} {done.err[-500:]}")
            else:
                verdicts.add(stage, fault, "refused" if refusals else "same", note)
            return
        refusals.append(done.line)
        if not mended(done.line, folder):
            break
    verdicts.add(stage, fault, "lost", f"{note} {refusals}")


def difference(
    found: Mapping[str, object], expected: Mapping[str, object], folder: Path | None = None
) -> str:
    """What differs, and temporary files that were left in a folder; empty where nothing."""
    names = sorted({*found, *expected})
    other = [name for name in names if found.get(name) != expected.get(name)]
    left = [] if folder is None else [path.name for path in folder.rglob("*.tmp")]
    return ", ".join([*other, *left])


def mended(line: str, folder: Path) -> bool:
    """Do what a line of error says: remove a file or folder, or copy one; False for neither.

    Within `folder` only.
    """
    if found := re.search(r"mend it by: cp ('.*?'|\S+) ('.*?'|\S+)", line):
        source, target = (Path(shlex.split(word)[0]) for word in found.groups())
        shutil.copyfile(source, target)
        return True
    named = re.search(r"ladder: (\S+?)[:,]? ", line)
    removed = re.findall(r"remove (\S+?)[,;.]?(?: |$)", line)
    if not removed:
        return False
    for word in removed:
        word = named[1] if word in ("it", "the") and named else word
        path = Path(word.rstrip(",;"))
        if not path.is_relative_to(folder) or path == folder.parent:
            return False
        if "folder" in line and "remove the folder" in line:
            path = path.parent if path.is_file() else path
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if "and its rung's manifest.json" in line and named:
        (Path(named[1]).parent.parent / "manifest.json").unlink(missing_ok=True)
    return True


def mount(path: Path, size: str) -> bool:
    """Mount a small file system there; False where that is not allowed."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "ladder-faults", str(path)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def unmount(path: Path) -> None:
    """Undo it."""
    subprocess.run(["umount", "-l", str(path)], capture_output=True, check=False)


def remount(path: Path, how: str) -> None:
    """Make it read-only (`ro`), or writable again (`rw`)."""
    subprocess.run(["mount", "-o", f"remount,{how}", str(path)], check=True)


def fill(path: Path, left: int) -> Path:
    """Leave so many bytes of a file system free; returns the file that takes the rest."""
    ballast = path / "ballast"
    free = shutil.disk_usage(path).free
    with ballast.open("wb") as file:
        for _ in range(max(0, free - left) // 4096):
            file.write(bytes(4096))
    return ballast
