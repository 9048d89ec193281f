"""Timings, each beside what it is compared with: `make bench`, never part of `make test`.

Absolute times do not carry from one machine to another, so everything compared is measured in
turn (A B A B ...) in one go, and the ratio of medians is what counts. Services say themselves
when they start and end (CLOCK_MONOTONIC), so watching them adds nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

BIN = pathlib.Path(sys.executable).parent
PODVISOR = str(BIN / "podvisor")

HELLO = """
import typer
app = typer.Typer()
@app.command()
def main(name: str = "world") -> None:
    print("hello", name)
app()
"""

ONE = """
apiVersion: v1
kind: Pod
metadata: {name: one}
spec:
  restartPolicy: Never
  containers: [{name: app, command: [/bin/echo, hello]}]
"""

# Writes one line at its start and ends at once on SIGTERM: one process, no children, since not
# every peer ends those. `NEVER` is a FIFO that nobody writes to.
SERVICE = "trap 'exit 0' TERM; exec 3<>NEVER; echo up; read x <&3"


def first_byte(command: list[str]) -> float:
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    os.read(process.stdout.fileno(), 1)
    taken = time.perf_counter() - begin
    process.stdout.read()
    process.wait()
    process.stdout.close()
    return taken


def whole(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - begin


def in_turn(rounds: int, *measures: Callable[[], float]) -> list[list[float]]:
    results: list[list[float]] = [[] for _ in measures]
    for turn in range(rounds + 1):
        for result, measure in zip(results, measures, strict=True):
            taken = measure()
            if turn:  # the first round warms up
                result.append(taken)
    return results


def show(name: str, values: list[float], unit: str = "ms", scale: float = 1e3) -> None:
    low, middle, high = min(values), statistics.median(values), max(values)
    print(
        f"  {name:<48} {middle * scale:9.1f} {unit}   "
        f"({low * scale:.1f} to {high * scale:.1f}, {len(values)} runs)"
    )


def start_up(folder: pathlib.Path, rounds: int) -> None:
    print("\nStart-up, beside a typer hello-world application")
    hello, one = folder / "hello.py", folder / "one.yaml"
    hello.write_text(HELLO)
    one.write_text(ONE)
    app = [sys.executable, str(hello)]
    base, first, run, help_ = in_turn(
        rounds,
        lambda: whole(app),
        lambda: first_byte([PODVISOR, "run", str(one)]),
        lambda: whole([PODVISOR, "run", str(one)]),
        lambda: whole([PODVISOR, "--help"]),
    )
    show("typer hello-world, whole run", base)
    show("podvisor run: to the container's first byte", first)
    show("podvisor run: whole run", run)
    show("podvisor --help: whole run", help_)
    unit = statistics.median(base)
    print(f"  ratio first byte / hello-world: {statistics.median(first) / unit:.2f} (target 1.5)")
    print(f"  ratio --help / hello-world:     {statistics.median(help_) / unit:.2f} (target 1.2)")


def pods(count: int, containers: int, service: str) -> str:
    lines = []
    for pod in range(count):
        lines += ["---", "apiVersion: v1", "kind: Pod", f"metadata: {{name: p{pod}}}", "spec:"]
        lines += ["  restartPolicy: Never", "  containers:"]
        command = f"[sh, -c, {json.dumps(service)}]"
        lines += [f"  - {{name: c{i}, command: {command}}}" for i in range(containers)]
    return "\n".join(lines)


def waiting_service(folder: pathlib.Path) -> str:
    never = folder / "never"
    if not never.exists():
        os.mkfifo(never)
    return SERVICE.replace("NEVER", str(never))


def descendants(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        try:
            text = pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text()
        except OSError:
            continue
        found += [int(word) for word in text.split()]
    return found[1:]


def memory(pids: list[int]) -> float:
    """Proportional set size in MB."""
    total = 0
    for pid in pids:
        try:
            for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        except OSError:
            continue
    return total / 1024


def is_service(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip() in ("sh", "dash")
    except OSError:
        return False


def many(folder: pathlib.Path, count: int, containers: int, rounds: int) -> None:
    manifest = folder / f"many-{count}-{containers}.yaml"
    manifest.write_text(pods(count, containers, waiting_service(folder)))
    starts, stops, sizes = [], [], []
    for _ in range(rounds):
        begin = time.perf_counter()
        process = subprocess.Popen(
            [PODVISOR, "run", "--no-prefix", str(manifest)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        seen = 0
        while seen < count * containers:
            seen += os.read(process.stdout.fileno(), 65536).count(b"up\n")
        starts.append(time.perf_counter() - begin)
        time.sleep(0.5)
        own = [process.pid, *(p for p in descendants(process.pid) if not is_service(p))]
        sizes.append(memory(own))
        begin = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        process.wait()
        stops.append(time.perf_counter() - begin)
        process.stdout.close()
    print(f"\n{count} pod(s) with {containers} container(s), that end at once on SIGTERM")
    show("start of podvisor -> all running", starts)
    show("SIGTERM -> all stopped, nothing left, podvisor gone", stops)
    show("memory (PSS) of podvisor, launcher and logger", sizes, "MB", 1)


def s6(folder: pathlib.Path, count: int, rounds: int) -> None:
    if not shutil.which("s6-svscan"):
        print("\ns6 is not installed (Debian: apt install s6): nothing to compare with")
        return
    starts, stops, sizes = [], [], []
    for turn in range(rounds):
        scan = folder / f"s6-{turn}"
        events = folder / f"s6-events-{turn}"
        events.write_text("")
        for index in range(count):
            service = scan / f"s{index}"
            (service / "log").mkdir(parents=True)
            run = service / "run"
            run.write_text(f"#!/bin/sh\necho up >>{events}\nexec 2>&1\n{waiting_service(folder)}\n")
            log = service / "log" / "run"
            log.write_text(f"#!/bin/sh\nexec s6-log t {folder}/s6-log-{turn}-{index}\n")
            run.chmod(0o755)
            log.chmod(0o755)
        begin = time.perf_counter()
        process = subprocess.Popen(
            ["s6-svscan", str(scan)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while events.read_text().count("up") < count:
            time.sleep(0.002)
        starts.append(time.perf_counter() - begin)
        time.sleep(0.5)
        own = [process.pid, *(p for p in descendants(process.pid) if not is_service(p))]
        sizes.append(memory(own))
        watched = [os.pidfd_open(p) for p in descendants(process.pid)]
        begin = time.perf_counter()
        subprocess.run(["s6-svscanctl", "-t", str(scan)], check=True)
        process.wait()
        for fd in watched:
            select_readable(fd)
            os.close(fd)
        stops.append(time.perf_counter() - begin)
    print(f"\ns6 with s6-log, {count} services of the same kind")
    show("start of s6-svscan -> all running", starts)
    show("stop -> all processes gone", stops)
    show("memory (PSS) of s6's own processes", sizes, "MB", 1)


def select_readable(fd: int) -> None:
    import select

    poller = select.poll()
    poller.register(fd, select.POLLIN)
    poller.poll(10_000)


def logs(folder: pathlib.Path, megabytes: int, rounds: int) -> None:
    """One container writes lines of 80 bytes; how fast they are in the log file."""
    manifest = folder / "logs.yaml"
    lines = megabytes * 1_000_000 // 80
    manifest.write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: logs}\nspec:\n  restartPolicy: Never\n"
        "  containers:\n  - name: app\n    command:\n    - sh\n    - -c\n"
        f"    - yes {'x' * 79} | head -n {lines}\n"
    )
    with_screen = [whole([PODVISOR, "run", "--no-prefix", str(manifest)]) for _ in range(rounds)]
    print(f"\n{megabytes} MB of 80-byte lines from one container, also shown on stdout")
    show("whole run", with_screen)
    print(f"  {megabytes / statistics.median(with_screen):.0f} MB/s, start-up included")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="podvisor-bench-") as name:
        folder = pathlib.Path(name)
        start_up(folder, options.rounds)
        many(folder, 1, 100, 5)
        many(folder, 100, 1, 5)
        s6(folder, 100, 5)
        logs(folder, 100, 3)


if __name__ == "__main__":
    main()
