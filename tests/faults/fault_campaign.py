"""Hundreds of faults in training, scoring, tokenising and submitting, and what comes of each.

python tests/faults/fault_campaign.py [--small] [--seed N] [--only STAGE] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

import yaml
from fault_harness import (
    HARMS,
    Done,
    Verdicts,
    accesses,
    difference,
    fill,
    judged,
    mount,
    remount,
    run,
    start,
    unmount,
    waited,
)

RUNG = "b-2xC"
SIZE = {"layers": 1, "heads": 1}
TINY = {
    "name": "tiny",
    "corpus": {
        "kind": "walks",
        "nodes": 32,
        "validation_walks": 16,
        "tasks": [
            {"name": "next", "choices": 4, "answer_rank": [1, 4], "ratio": [2, 50], "items": 20}
        ],
    },
    "model": {
        "sequence_length": 16,
        "sizes": {
            "a": {**SIZE, "width": 4, "hidden": 8},
            "b": {**SIZE, "width": 6, "hidden": 12},
        },
    },
    "ladder": {"sizes": ["a", "b"], "multiples": [1, 2]},
    "targets": [{"size": "b", "multiple": 8}],
    "recipe": {"batch_divisor": 4},
    "evaluation": {"at": [0.4, 0.7]},
    "checkpoints": {"every": 5},
    "predict": {"method": "own"},
}
TEXTS = {
    "kind": "text",
    "tokenizer": "bytes",
    "held_out": 0.1,
    "shard_tokens": 4000,
    "validation_tokens": 2000,
    "workers": 1,
    "sources": [{"name": "web", "files": ["{folder}/*.jsonl"]}],
}
MADE = ("scores.parquet", "checkpoints/*/*.safetensors")
KEPT = (*MADE, "choices/step-*/*.parquet")
"""What must be the same. Choices of steps before the one that a run goes on from are not read:
where they are damaged, whoever reads them is told."""


class Campaign:
    """Everything that is done in one folder, from one seed."""

    def __init__(self, folder: Path, seed: int, small: bool) -> None:
        self.folder, self.draw, self.small = folder, random.Random(seed), small
        self.verdicts = Verdicts()
        self.config = folder / "tiny.yaml"
        self.config.write_text(yaml.safe_dump(TINY))
        self.number = 0
        self.extra = folder / "extra.jsonl"
        warm = folder / "warm"
        done = self.train(warm)
        # In this process too: what it imports, forks need not.
        from ladder.cli import main

        assert main([str(w) for w in self.training(folder / "warm2")]) == 0
        assert done.code == 0, done.err
        self.whole = warm
        self.known = self.state(warm)
        items = (warm / "tasks" / "next.jsonl").read_text().splitlines()
        self.extra.write_text("\n".join(items[:8]) + "\n")

    def training(self, path: Path, *more: object) -> list[object]:
        return ["train", self.config, "--engine", "here", "--rung", RUNG, "--runs", path, *more]

    def train(self, path: Path) -> Done:
        return run(self.training(path))

    def fresh(self, name: str = "runs", of: Path | None = None) -> Path:
        """A folder of its own, perhaps a copy."""
        self.number += 1
        path = self.folder / f"{self.number}" / name
        path.parent.mkdir()
        if of is not None:
            shutil.copytree(of, path)
        return path

    def state(self, path: Path, *patterns: str) -> dict[str, bytes]:
        """What must be the same byte for byte."""
        rung = path / RUNG
        found = {str(p.relative_to(rung)): p for q in patterns or KEPT for p in rung.glob(q)}
        # Of checkpoints the last; a damaged one is kept beside, and the one before may be another.
        saved = [n for n in found if n.startswith("checkpoints/step-")]
        last = max(map(_step, saved), default=0)
        wanted = {n for n in saved if _step(n) == last}
        return {
            n: _content(p)
            for n, p in found.items()
            if n in wanted or not n.startswith("checkpoints/")
        }

    def many(self, number: int) -> range:
        return range(-(-number // 12) if self.small else number)

    # ----- training

    def kills(self) -> None:
        """SIGKILL and SIGTERM of training at any access to a file, and at any time."""
        count, seconds = accesses(self.training(self.fresh()), self.folder)
        plans: list[tuple[str, int, bool]] = [
            *(("SIGKILL at a file", signal.SIGKILL, True) for _ in self.many(30)),
            *(("SIGTERM at a file", signal.SIGTERM, True) for _ in self.many(14)),
            *(("SIGKILL at a moment", signal.SIGKILL, False) for _ in self.many(14)),
            *(("SIGTERM at a moment", signal.SIGTERM, False) for _ in self.many(10)),
        ]
        for fault, number, at_file in plans:
            path = self.fresh()
            if at_file:
                at = self.draw.randint(1, count)
                run(self.training(path), watched=self.folder, at=at, number=number)
                note = f"access {at} of {count}"
            else:
                after = self.draw.uniform(0, seconds)
                process = start(self.training(path))
                time.sleep(after)
                _kill(process.pid, number)
                process.wait()
                note = f"after {after:.2f} of {seconds:.2f} s"
            self.judge("training", fault, path, note)

    def judge(
        self, stage: str, fault: str, path: Path, note: str = "", kept: Sequence[str] = KEPT
    ) -> None:
        known = self.state(self.whole, *kept)
        judged(
            self.verdicts,
            stage,
            fault,
            lambda: self.train(path),
            lambda: difference(self.state(path, *kept), known, path),
            path,
            note,
        )
        shutil.rmtree(path.parent, ignore_errors=True)

    def half(self) -> Path:
        """A run that was killed after two checkpoints, and scored."""
        path = self.fresh()
        rung = path / RUNG
        process = start(self.training(path))
        while len(list(rung.glob("checkpoints/step-*"))) < 2 or not list(rung.glob("scores*")):
            time.sleep(0.002)
            assert process.status is None
        _kill(process.pid, signal.SIGKILL)
        process.wait()
        return path

    def damages(self) -> None:
        """Files of a run that was killed halfway, damaged before it goes on."""
        half = self.half()
        files = [p.relative_to(half) for p in sorted(half.rglob("*")) if p.is_file()]
        files = [p for p in files if p.name not in (".lock", ".tables.lock")]
        pairs = [(file, harm) for file in files for harm in HARMS]
        self.draw.shuffle(pairs)
        for file, harm in pairs[: 10 if self.small else 110]:
            path = self.fresh(of=half)
            harm(path / file, self.draw)
            self.judge("training", f"{_kind(file)} damaged", path, f"{harm.__name__} {file}", MADE)

    def disks(self) -> None:
        """Training on a disk that fills, and in a folder that turns read-only."""
        place = self.folder / "disk"
        place.mkdir(exist_ok=True)
        if not mount(place, "4m"):
            print("no tmpfs may be mounted here: full disks and read-only folders left out")
            return
        unmount(place)
        for index in self.many(10):
            assert mount(place, "4m")
            try:
                path = place / "runs"
                left = self.draw.randrange(0, 300_000)
                if index % 2:
                    shutil.copytree(self.half(), path)
                ballast = fill(place, left)
                done = run(self.training(path))
                note = f"{left} bytes free: {done.line}"
                if done.complaint or (done.code == 0 and self.state(path) != self.known):
                    self.verdicts.add("training", "full disk", "rude", done.complaint or "wrong")
                ballast.unlink()
                self.judge_in("full disk", path, note)
            finally:
                unmount(place)
        for index in self.many(6):
            assert mount(place, "4m")
            try:
                path = place / "runs"
                if index % 2:
                    shutil.copytree(self.half(), path)
                remount(place, "ro")
                done = run(self.training(path))
                status = run(["status", path, "--json"])
                remount(place, "rw")
                bad = done.complaint or (index % 2 and status.complaint)
                if bad or done.code == 0:
                    self.verdicts.add("training", "read-only folder", "rude", f"{bad} {done}")
                self.judge_in("read-only folder", path, done.line)
            finally:
                unmount(place)

    def judge_in(self, fault: str, path: Path, note: str) -> None:
        judged(
            self.verdicts,
            "training",
            fault,
            lambda: self.train(path),
            lambda: difference(self.state(path), self.known, path),
            path,
            note,
        )

    def pairs(self) -> None:
        """A second command in the folder of one that is at work."""
        count, _ = accesses(self.training(self.fresh()), self.folder)
        whole = ["train", self.config, "--engine", "here", "--runs"]
        for index in self.many(10):
            path = self.fresh()
            first = whole if index % 3 == 1 else self.training(path)[:-1]
            # Not before it has the lock: until then there is no first one.
            at = self.draw.randint(count // 3, count - 10)
            process = start([*first, path], self.folder, at, signal.SIGSTOP)
            stopped = process.until_stopped()
            second = self.training(path) if index % 3 != 2 else [*whole, path]
            refused = run(second)
            named = f"process {process.pid} " in refused.line
            quiet = not refused.complaint and refused.code == 2 and named
            if stopped and not quiet:
                self.verdicts.add("training", "a second command", "rude", f"{refused}")
            if stopped:
                os.kill(process.pid, signal.SIGCONT)
            process.wait()
            self.judge("training", "a second command", path, refused.line)

    def ranks(self) -> None:
        """One of two ranks that train together dies."""
        whole = self.fresh()
        done = self.together(whole)
        assert [d.code for d in done] == [0, 0], done
        expected = self.state(whole)
        count, _ = accesses(self.training(self.fresh()), self.folder)
        for index in range(1 if self.small else 4):
            path, victim = self.fresh(), index % 2
            at = self.draw.randint(1, 12) if victim else self.draw.randint(10, count // 2)
            dead = self.together(path, victim, at)
            for done_ in dead:
                if done_.complaint:
                    self.verdicts.add("training", "a rank dies", "rude", done_.complaint)
            judged(
                self.verdicts,
                "training",
                "a rank dies",
                partial(self.worst, path),
                partial(self.differs, path, expected),
                path,
                f"rank {victim} at access {at}: {[d.code for d in dead]}",
            )

    def together(self, path: Path, victim: int = -1, at: int = 0) -> list[Done]:
        """Two ranks; one of them may kill itself at a file."""
        shared = {
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self.draw.randint(20000, 30000)),
        }
        processes = [
            start(
                self.training(path),
                self.folder if rank == victim else None,
                at,
                environment={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in range(2)
        ]
        return waited(processes)

    def worst(self, path: Path) -> Done:
        """Both ranks again; the end of the one that fared worse."""
        ends = self.together(path)
        return next((end for end in ends if end.code), ends[0])

    def differs(self, path: Path, expected: dict[str, bytes]) -> str:
        return difference(self.state(path), expected)

    # ----- evaluation

    def evaluations(self) -> None:
        """Scoring a finished run on another task: killed, and from damaged files."""
        command = ["evaluate", "{path}", "--tasks", self.extra, "--json"]

        def of(path: Path) -> list[object]:
            return [str(word).format(path=path) for word in command]

        whole = self.fresh(of=self.whole)
        count, seconds = accesses(of(whole), whole)
        known = run(of(whole))
        expected = {**self.state(whole), "told": known.out.replace(str(whole), "")}
        assert known.code == 0, known.err

        def judge(fault: str, path: Path, note: str, kept: Sequence[str] = KEPT) -> None:
            said: list[str] = []
            # What was scored before is not scored again, whatever became of the weights.
            must = expected if kept == KEPT else {n: expected[n] for n in (*kept, "told")}

            def again() -> Done:
                done = run(of(path))
                if done.code == 2 and "`ladder train`" in done.line:
                    from fault_harness import mended

                    mended(done.line, path)
                    trained = self.train(path)
                    return trained if trained.code else run(of(path))
                said[:] = [done.out.replace(str(path), "")]
                return done

            def differs() -> str:
                final = run(of(path)).out.replace(str(path), "")
                return difference({**self.state(path, *kept), "told": final}, must, path)

            judged(self.verdicts, "evaluation", fault, again, differs, path, note)
            shutil.rmtree(path.parent, ignore_errors=True)

        for index in self.many(16):
            path = self.fresh(of=self.whole)
            number = signal.SIGTERM if index % 4 == 3 else signal.SIGKILL
            name = signal.Signals(number).name
            if index % 2:
                at = self.draw.randint(1, count)
                run(of(path), watched=path, at=at, number=number)
                judge(f"{name} at a file", path, f"access {at} of {count}")
            else:
                process = start(of(path))
                time.sleep(self.draw.uniform(0, seconds))
                _kill(process.pid, number)
                process.wait()
                judge(f"{name} at a moment", path, "")
        files = [p.relative_to(whole) for p in sorted(whole.rglob("*")) if p.is_file()]
        files = [p for p in files if not p.name.endswith(".lock")]
        pairs = [(file, harm) for file in files for harm in HARMS]
        self.draw.shuffle(pairs)
        for file, harm in pairs[: 3 if self.small else 40]:
            path = self.fresh(of=whole)
            harm(path / file, self.draw)
            judge(f"{_kind(file)} damaged", path, f"{harm.__name__} {file}", MADE[:1])

    # ----- tokenising

    def tokenising(self) -> None:
        """Shards: killed while they are made, on a full disk, and damaged before they are read."""
        from ladder.corpora.settings import TextCorpus
        from ladder.corpora.text import Text

        place = self.folder / "texts"
        place.mkdir()
        words = random.Random(3)
        for name in "ab":
            lines = [
                json.dumps({"text": " ".join(words.choices(["one", "two", "three", "four"], k=30))})
                for _ in range(120)
            ]
            (place / f"{name}.jsonl").write_text("\n".join(lines))
        document = json.loads(json.dumps(TEXTS).replace("{folder}", str(place)))
        config = TextCorpus.model_validate(document)

        def make(path: Path) -> Callable[[], None]:
            def made() -> None:
                path.mkdir(parents=True, exist_ok=True)
                corpus = Text(config, path / "corpus")
                corpus.prepare()
                rows = b"".join(corpus.batch(0, n, 8, 65).tobytes() for n in range(1, 40))
                held = corpus._streams["web"][1]
                (path.parent / "rows").write_bytes(rows + held[0 : len(held)].tobytes())

            return made

        def state(path: Path) -> dict[str, bytes]:
            found = {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*.bin*")}
            return {**found, "rows": (path.parent / "rows").read_bytes()}

        whole = self.fresh("made")
        count, seconds = accesses(make(whole), whole)
        expected = state(whole)
        assert len(expected) > 10

        def judge(fault: str, path: Path, note: str) -> None:
            (path.parent / "rows").unlink(missing_ok=True)
            judged(
                self.verdicts,
                "tokenising",
                fault,
                lambda: run(make(path)),
                lambda: difference(state(path), expected, path),
                path,
                note,
            )

        for index in self.many(24):
            path = self.fresh("made")
            number = signal.SIGTERM if index % 4 == 3 else signal.SIGKILL
            name = signal.Signals(number).name
            if index % 2:
                at = self.draw.randint(1, count)
                run(make(path), watched=path, at=at, number=number)
                judge(f"{name} at a file", path, f"access {at} of {count}")
            else:
                process = start(make(path))
                time.sleep(self.draw.uniform(0, seconds))
                _kill(process.pid, number)
                process.wait()
                judge(f"{name} at a moment", path, "")
        begun = self.fresh("made")
        run(make(begun), watched=begun, at=count // 2)
        for source, number in ((whole, 50), (begun, 20)):
            files = [p.relative_to(source) for p in sorted(source.rglob("*")) if p.is_file()]
            files = [p for p in files if not p.name.endswith((".lock", ".tmp"))]
            pairs = [(file, harm) for file in files for harm in HARMS]
            self.draw.shuffle(pairs)
            for file, harm in pairs[: 3 if self.small else number]:
                path = self.fresh("made", of=source)
                harm(path / file, self.draw)
                judge(f"{_kind(file)} damaged", path, f"{harm.__name__} {file}")
        disk = self.folder / "disk"
        disk.mkdir(exist_ok=True)
        for _ in self.many(6):
            if not mount(disk, "1m"):
                break
            try:
                ballast = fill(disk, self.draw.randrange(0, 200_000))
                done = run(make(disk / "in" / "made"))
                ballast.unlink()
                if done.complaint:
                    self.verdicts.add("tokenising", "full disk", "rude", done.complaint)
                judge("full disk", disk / "in" / "made", done.line)
            finally:
                unmount(disk)

    # ----- the whole

    def outputs(self) -> None:
        """What `ladder run` made, damaged; the same command makes it again."""
        path = self.fresh()
        command = ["run", self.config, "--workers", "1", "--runs"]
        done = run([*command, path])
        assert done.code == 0, done.err
        names = ("observations.parquet", "predictions.json", "audit.csv", "config.yaml")
        names += ("tasks/next.jsonl", "tasks/index.json")
        rungs = [f"{rung}-{m}xC" for rung in "ab" for m in (1, 2)]
        names += tuple(f"{rung}/scores.parquet" for rung in rungs)

        def state(path: Path) -> dict[str, bytes]:
            return {name: (path / name).read_bytes() for name in names}

        expected = state(path)
        pairs = [(Path(name), harm) for name in (*names, "a-1xC/manifest.json") for harm in HARMS]
        self.draw.shuffle(pairs)
        for file, harm in pairs[: 1 if self.small else 8]:
            copy = self.fresh(of=path)
            harm(copy / file, self.draw)
            judged(
                self.verdicts,
                "the whole",
                f"{_kind(file)} damaged",
                lambda copy=copy: run([*command, copy]),  # type: ignore[misc]
                lambda copy=copy: difference(state(copy), expected),  # type: ignore[misc]
                copy,
                f"{harm.__name__} {file}",
            )

    # ----- submitting

    def submitting(self) -> None:
        """Killed while jobs are submitted: none is lost, none submitted twice."""
        tools = self.folder / "tools"
        tools.mkdir()
        queue = self.folder / "queue"
        for name, text in SLURM.items():
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        environment = {"PATH": f"{tools}:{os.environ['PATH']}", "FAULT_QUEUE": str(queue)}

        def of(path: Path) -> list[object]:
            return ["train", self.config, "--engine", "slurm", "--runs", path]

        def names(path: Path) -> list[str]:
            lines = queue.read_text().splitlines() if queue.is_file() else []
            return sorted(Path(line.split("|")[1]).stem for line in lines)

        path = self.fresh()
        assert run(of(path), environment=environment).code == 0
        expected = [*names(path)]
        queue.unlink()
        count, seconds = 0, 0.0
        process = start(of(path), self.folder, environment=environment)
        begin = time.monotonic()
        while not process.read("accesses"):
            assert time.monotonic() < begin + 60
            time.sleep(0.003)
        count, seconds = int(process.read("accesses")), time.monotonic() - begin
        process.wait()
        for index in self.many(16):
            queue.unlink(missing_ok=True)
            path = self.fresh()
            number = signal.SIGTERM if index % 4 == 3 else signal.SIGKILL
            name = signal.Signals(number).name
            if index % 2:
                at = self.draw.randint(1, count)
                run(of(path), watched=self.folder, at=at, number=number, environment=environment)
                fault, note = f"{name} at a file", f"access {at} of {count}"
            else:
                process = start(of(path), environment=environment)
                time.sleep(self.draw.uniform(0, seconds))
                _kill(process.pid, number)
                process.wait()
                fault, note = f"{name} at a moment", ""
            judged(
                self.verdicts,
                "submitting",
                fault,
                lambda path=path: run(of(path), environment=environment),  # type: ignore[misc]
                lambda path=path: _unlike(names(path), expected),  # type: ignore[misc]
                path,
                f"{note} {names(path)}",
            )


SLURM = {
    "sbatch": """#!/bin/sh
for script; do :; done
exec 9>>"$FAULT_QUEUE.lock"; flock 9
id=$(($(wc -l <"$FAULT_QUEUE" 2>/dev/null || echo 0) + 100))
echo "$id|$script" >>"$FAULT_QUEUE"
echo $id
""",
    "squeue": """#!/bin/sh
[ -f "$FAULT_QUEUE" ] || exit 0
case "$*" in
*%o*) cat "$FAULT_QUEUE" ;;
*) awk -F'|' '{print $1 "|PENDING|None"}' "$FAULT_QUEUE" ;;
esac
""",
}

STAGES: dict[str, Callable[[Campaign], None]] = {
    "ranks": Campaign.ranks,
    "submitting": Campaign.submitting,
    "pairs": Campaign.pairs,
    "disks": Campaign.disks,
    "tokenising": Campaign.tokenising,
    "evaluations": Campaign.evaluations,
    "kills": Campaign.kills,
    "damages": Campaign.damages,
    "outputs": Campaign.outputs,
}


def campaign(seed: int, small: bool, only: Sequence[str] = ()) -> Verdicts:
    """Do it all, on a file system in memory where there is one."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="faults-", dir=place) as folder:
        tempfile.tempdir = folder
        try:
            own = Campaign(Path(folder), seed, small)
            for name, stage in STAGES.items():
                if not only or name in only:
                    before, begin = len(own.verdicts.rows), time.monotonic()
                    stage(own)
                    made, seconds = len(own.verdicts.rows) - before, time.monotonic() - begin
                    print(f"{name}: {made} faults in {seconds:.0f} s", flush=True)
            return own.verdicts
        finally:
            tempfile.tempdir = None


def _content(path: Path) -> bytes:
    """A file's bytes; of weights the tensors', which are not always in the same order."""
    if path.suffix != ".safetensors":
        return path.read_bytes()
    from safetensors.numpy import load_file

    tensors = load_file(path)
    return b"".join(name.encode() + tensors[name].tobytes() for name in sorted(tensors))


def _step(name: str) -> int:
    return int(Path(name).parent.name.removeprefix("step-") or 0)


def _kind(file: Path) -> str:
    """What a file is, whatever it is called."""
    if "checkpoints" in file.parts:
        return "checkpoint"
    if ".bin" in file.suffixes:
        return "shard"
    if any(part.startswith("tokenizer") for part in file.parts):
        return "tokenizer"
    return {".parquet": "Parquet", ".jsonl": "JSONL", ".json": "JSON", ".yaml": "YAML"}.get(
        file.suffix, file.suffix.removeprefix(".") or file.name
    )


def _unlike(names: Sequence[str], expected: Sequence[str]) -> str:
    """Jobs that are missing or twice in the queue; the report may be there again."""
    rungs = [name for name in names if name != "report"]
    alike = {*names} == {*expected} and len(rungs) == len({*rungs})
    return "" if alike else f"queued are {', '.join(names)}"


def _kill(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def main() -> int:
    """Run it, print what came of it, and fail where something did that must not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    begin, cpu = time.monotonic(), os.times()
    verdicts = campaign(given.seed, given.small, given.only)
    now = os.times()
    document = {
        "version": 1,
        "seed": given.seed,
        "faults": len(verdicts.rows),
        "bad": len(verdicts.bad),
        "seconds": round(time.monotonic() - begin),
        "cpu_seconds": round(
            now.user + now.system + now.children_user + now.children_system - cpu.user - cpu.system
        ),
        "counts": verdicts.counts(),
    }
    print(json.dumps(document, indent=1))
    if given.out:
        given.out.write_text(json.dumps({**document, "rows": verdicts.rows}, indent=1) + "\n")
    return 1 if verdicts.bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
