"""Decides whether a node that was killed again and again has kept its promises.

Imports nothing of podvisor's, and asks nobody: it reads what the driver has gathered in a folder,
and the kernel's list of processes. Run as `checker.py FOLDER`, it prints what it found as JSON, and
ends with 1 if anything is wrong.

    trail/POD           lines in the order in which things happened, each fsynced by who did it
                        (pod.sh, and the driver for requests), and the kills of the driver
    journal             when the supervisor was started, when it had taken on its pods, and when it
                        was found dead
    objects/POD.json    the object as stored last; POD.manifest: what was asked for;
                        POD.events: what was told of it, to be shown when something is wrong
    logs/POD/*          the log files, one for each attempt
    pauses/*            which processes held pid namespaces of pods
    state               the state directory: at the end nothing of a pod is in it

Order says more than time: a line that stands before another was written before. Times (uptime, in
hundredths) are only used for how long a supervisor lived between two lines.
"""

import glob
import json
import os
import re
import sys
import time

SETTLE = 2.5  # seconds of a supervisor's life in which it surely comes to commit what has happened
SPAWN = 1.5  # seconds around a start in which a launcher's death leaves nobody who knows
ENDING = 10.0  # seconds until a launcher has ended whose supervisor was killed as the last thing
CUT = 0.3  # seconds before the end of its grace in which a program's last word may be no end yet
EARLY = 0.3  # seconds by which a program may speak later than it was begun
LOSSY = ("launcher", "both", "all")
ANEW = 42  # the exit code that restarts all containers
# What pid 1 of a shared namespace is called: it names itself only when it is up.
PAUSE = re.compile(r"pause|python.*|podvisor-launch")


class Line:
    def __init__(self, text):
        when, self.kind, *self.words = text.split(" ")
        self.at = float(when)
        self.text = text


class Run:
    """One program of a container, from its first line on."""

    def __init__(self, number, at):
        self.number, self.begin = number, at
        self.term = self.end = None  # when
        self.code = None
        self.lines = None
        self.hooks = {}  # of its attempt: which -> the words of what happened, in order
        self.gone_at = None  # it may have ended here without a word of its own

    @property
    def until(self):
        return self.end if self.end is not None else self.gone_at


class Pod:
    def __init__(self, name, folder, node):
        self.name, self.folder, self.node = name, folder, node
        with open(f"{folder}/objects/{name}.manifest") as file:
            self.manifest = json.load(file)
        spec = self.manifest["spec"]
        self.containers = {
            c["name"]: c for c in (*spec.get("initContainers", ()), *spec["containers"])
        }
        self.grace = spec["terminationGracePeriodSeconds"]
        with open(f"{folder}/trail/{name}") as file:
            self.trail = [Line(line) for line in file.read().splitlines()]
        self.runs = {label: [] for label in self.containers}
        self.kills = [(i.at, i.words[0]) for i in self.trail if i.kind == "kill"]
        self.asked = next((i.at for i in self.trail if i.kind == "asked"), None)
        self.anew = None  # the run whose end restarts all, until the first container has run again
        self.view = None  # the pid namespace that all containers share
        self.hooks = {}  # id -> its lines
        self.heard = {}  # (container, attempt) -> which -> the words of what happened
        self.logs = {}
        for label in self.containers:
            self.logs[label] = self.read_logs(label)

    def wrong(self, rule, text):
        self.node.wrong(rule, f"{self.name}: {text}", self.story())

    def story(self):
        """For a person to see what happened: the trail, and what the node told of the pod."""
        lines = [(line.at, line.text) for line in self.trail]
        try:
            with open(f"{self.folder}/objects/{self.name}.events") as file:
                lines += [(float(line.split(" ", 1)[0]), line.rstrip()) for line in file]
        except FileNotFoundError:
            pass
        attempts = {
            label: {n: a for n, (a, _) in logs.items()} for label, logs in self.logs.items()
        }
        return [f"attempts by run: {attempts}", *(text for _, text in sorted(lines))]

    def hook(self, label, which):
        return self.containers[label].get("lifecycle", {}).get(which)

    def how(self, label):
        return self.containers[label]["command"][4]

    # --- what was killed when ---

    def killed(self, begin, end, kinds=None):
        return [
            at for at, what in self.kills if begin <= at <= end and (not kinds or what in kinds)
        ]

    def is_lossy(self, begin, end):
        """Whether what became of a run, or its last output, may be known by nobody.

        A launcher that dies in the moment of a start; all that read its output dead at the same
        time; supervisor and launcher dead, or the supervisor not yet come to itself, between its
        end and its commit.
        """
        if self.killed(begin - SPAWN, begin + SPAWN, LOSSY) or self.is_unread(begin, end):
            return True
        return any(
            self.node.longest_life(min(at, end), max(at, end)) < SETTLE
            for at, what in self.kills
            if at >= begin and what in LOSSY
            if what != "launcher" or self.node.age(at) < SETTLE
        )

    def is_unread(self, begin, end):
        """Whether a run may have lost all that read its output.

        The logger of a launcher that was killed reads on, but nobody restarts it any more.
        """
        launchers = self.killed(begin, end + 1, LOSSY)
        loggers = self.killed(begin - SPAWN, end + 1, ("logger",))
        alone = any(k >= at or at - k < SPAWN for at in launchers for k in loggers)
        return alone or bool(self.killed(begin, end + 1, ("all",)))

    # --- the trail, line by line ---

    def follow(self):
        for line in self.trail:
            if line.kind == "main":
                self.follow_main(line)
            elif line.kind == "hook":
                self.follow_hook(line)
        for lines in self.hooks.values():
            self.judge_repetitions(lines)
        for label in self.containers:
            self.judge_runs(label)

    def judge_return(self, last, line):
        """The last container of a pod that began anew has run: all others have begun before."""
        if line.at - last.begin < 0.5 or self.killed(last.begin - SPAWN, line.at, LOSSY):
            return
        for label in self.containers:
            run = self.newest(label)
            if run is None or run.gone_at is not None:
                self.wrong("restart of all", f"{label} did not begin anew: {line.text}")

    def newest(self, label):
        return self.runs[label][-1] if self.runs[label] else None

    def attempt_of(self, label, number):
        """Of a run, as its log says; or the one after that of the run before."""
        if number in self.logs[label]:
            return self.logs[label][number][0]
        before = [run.number for run in self.runs[label] if run.number < number]
        return self.attempt_of(label, before[-1]) + 1 if before else 0

    def follow_main(self, line):
        label, number, what, *more = line.words
        number = int(number)
        if what == "overlap":
            # What has lost its reaper is only found by a launcher that saw that.
            before = self.newest(label)
            known = before is not None and not self.killed(before.begin, line.at, LOSSY)
            if self.how(label) != "wild" or known:
                self.wrong("one live attempt", f"a second {label} ran: {line.text}")
            return
        run = self.newest(label)
        if what == "begin":
            if run is not None and run.until is None:
                run.gone_at = line.at
            if number != len(self.runs[label]) + 1:
                self.wrong("one live attempt", f"{label} run {number} is out of order")
            fresh = Run(number, line.at)
            fresh.hooks = self.heard.setdefault((label, self.attempt_of(label, number)), {})
            self.judge_start(label, fresh, line)
            self.runs[label].append(fresh)
            return
        if run is None or run.number != number:
            self.wrong("one live attempt", f"{label} run {number} goes on after the next began")
            return
        if run.gone_at is not None:
            self.wrong("restart of all", f"{label} run {number} was to be gone: {line.text}")
        if what in ("term", "end") and self.how(label) == "anew":
            self.judge_return(run, line)
        if what == "term":
            run.term = line.at
            self.judge_term(label, run, line)
        elif what == "end":
            run.end, run.code, run.lines = line.at, int(more[0]), int(more[1])
            if self.how(label) == "anew" and run.code == ANEW:
                self.anew = run
        elif what == "in":
            self.judge_view(*more, line)
        elif what == "zombie":
            self.wrong("shared namespace", f"pause did not reap: {line.text}")

    def judge_view(self, view, pid, first, line):
        """All containers of a pod that shares are in one pid namespace, whoever was killed."""
        if pid == "1" or not PAUSE.fullmatch(first):
            self.wrong("shared namespace", f"a program is pid 1: {line.text}")
        if self.view not in (None, view):
            self.wrong("shared namespace", f"it is another one: {line.text}")
        self.view = view

    def judge_restart_of_all(self, label, line):
        """After an end that restarts all the first container comes first, and everybody is gone."""
        first, *others = self.containers
        is_lossy = self.is_lossy(self.anew.begin, line.at)
        if label != first and not is_lossy:
            self.wrong("restart of all", f"{label} began before {first}: {line.text}")
            return
        self.anew = None
        if label != first:
            return
        for other in others:
            run = self.newest(other)
            if run is not None and run.until is None:
                run.gone_at = line.at

    def judge_start(self, label, fresh, line):
        """One start at a time: a postStart belongs to its container's."""
        if self.anew is not None:
            self.judge_restart_of_all(label, line)
            return
        before = self.newest(label)
        over = before is not None and before.code == 0 and self.how(label) in ("job", "short")
        if over and not self.is_lossy(before.begin, line.at):
            self.wrong("exit codes", f"{label} ran again after it had succeeded")
        for other, runs in self.runs.items():
            if other == label or not runs or self.hook(other, "postStart") is None:
                continue
            last = runs[-1]
            if last.until is not None or last.term is not None or line.at - last.begin < 0.5:
                continue  # two that start one after the other may speak in the other order
            if self.killed(last.begin - SPAWN, line.at, LOSSY) or self.how(other) == "crash":
                continue
            if "end" not in last.hooks.get("postStart", ()):
                self.wrong(
                    "no hook missed", f"{label} started before the postStart of {other} ended"
                )

    def judge_term(self, label, run, line):
        """The stop signal comes after the preStop, except when the grace period is over."""
        if self.hook(label, "preStop") is not None:
            since = self.asked if self.asked is not None else line.at
            if "end" not in run.hooks.get("preStop", ()) and line.at - since < self.grace - 1:
                self.wrong(
                    "no hook missed", f"{label} was told to stop before its preStop: {line.text}"
                )
        if self.hook(label, "postStart") is not None and "begin" not in run.hooks.get(
            "postStart", ()
        ):
            until = line.at if self.asked is None else min(self.asked, line.at)
            if self.node.longest_life(run.begin, until) > SETTLE:
                self.wrong("no hook missed", f"the postStart of {label} run {run.number} never ran")

    def follow_hook(self, line):
        id, _, what, *flags = line.words
        _, label, attempt, which = id.split("/")
        self.hooks.setdefault(id, []).append(line)
        if what == "overlap":
            self.wrong("no overlap of hooks", line.text)
            return
        heard = self.heard.setdefault((label, int(attempt)), {})
        heard.setdefault(which, []).append(what)
        run = self.newest(label)
        if what == "begin" and which == "preStop" and not self.is_owed(label, flags):
            self.wrong("no hook that is not owed", line.text)
        if what == "begin" and which == "postStart" and run is None and not self.kills:
            # The hook may be faster than the first line of its container, but not for long.
            later = [i for i in self.trail if i.kind == "main" and i.words[0] == label]
            if not later:
                self.wrong(
                    "no hook that is not owed", f"of a container that never ran: {line.text}"
                )

    def is_owed(self, label, flags):
        """Whether something is known for which the node may stop this container."""
        sidecar = self.containers[label].get("restartPolicy") == "Always"
        return (
            "asked" in flags
            or f"failed.{label}" in flags
            or f"sick.{label}" in flags
            or (sidecar and "over" in flags)
        )

    def judge_repetitions(self, lines):
        """A hook begins again only if somebody of ours died before its end was recorded."""
        id = lines[0].words[0]
        _, label, _, which = id.split("/")
        is_program = "exec" in self.hook(label, which)
        begins = [line for line in lines if line.words[2] == "begin"]
        self.node.hooks += 1
        self.node.repeated += len(begins) > 1
        number, since = 0, None
        for line in begins:
            again = int(line.words[1])
            if again <= number:
                self.wrong("repetitions", f"run {again} after run {number}: {line.text}")
            # A program goes on without the supervisor, and its result waits in the launcher.
            kinds = LOSSY if is_program else None
            begin = since.at if since is not None else line.at - 60
            if (
                again > 1
                and since is not None
                and not self.is_repetition(lines, since, line, kinds)
            ):
                self.wrong("repetitions", f"nobody had died: {line.text}")
            if again > 1 and since is None and not self.killed(begin, line.at):
                self.wrong("repetitions", f"nobody had died before the first line: {line.text}")
            number, since = max(again, number), line

    def is_repetition(self, lines, first, second, kinds):
        place = lines.index(first)
        ends = [i.at for i in lines[place : lines.index(second)] if i.words[2] in ("end", "failed")]
        deaths = self.killed(first.at - EARLY, second.at, kinds)
        if not ends:
            return bool(deaths)
        return any(self.node.longest_life(ends[0], death) < SETTLE for death in deaths)

    # --- each run, with its log and the final object ---

    def read_logs(self, label):
        """By run: its attempt, and how many lines its log has."""
        logs = {}
        for path in sorted(glob.glob(f"{self.folder}/logs/{self.name}/{label}.*.log")):
            attempt = int(path.rsplit(".", 2)[1])
            number, counts = self.read_log(path, label)
            if number is None:
                continue
            if number in logs:
                self.wrong("logs", f"two logs have {label} run {number}")
            logs[number] = attempt, counts
        return logs

    def judge_runs(self, label):
        logs = self.logs[label]
        last = self.trail[-1].at
        for run in self.runs[label]:
            until = run.until if run.until is not None else last
            self.node.runs += 1
            lossy = self.is_lossy(run.begin, until)
            if run.number not in logs:
                if run.lines and not lossy:
                    self.wrong("logs", f"there is no log of {label} run {run.number}")
                continue
            _, counts = logs[run.number]
            if run.lines is not None and not lossy:
                for stream in ("stdout", "stderr"):
                    if counts[stream] != run.lines:
                        text = f"{label} run {run.number} wrote {run.lines} lines to {stream}"
                        self.wrong("logs", f"{text}, {counts[stream]} are in its log")
        attempts = [logs[number][0] for number in sorted(logs)]
        if attempts != sorted(set(attempts)):
            self.wrong("one live attempt", f"attempts of {label} are out of order: {attempts}")
        self.judge_object(label, logs)

    def read_log(self, path, label):
        """The run that a log is of, and how many lines of each stream it has."""
        counts, number = {"stdout": 0, "stderr": 0}, None
        with open(path, encoding="utf-8") as file:
            text = file.read()
        if text and not text.endswith("\n"):
            self.wrong("logs", f"{path} ends in the middle of a line")
        for record in text.splitlines():
            found = re.fullmatch(r"\S+ (stdout|stderr) F (\S+) (\S+) (\d+) (\w+) (\d+)", record)
            if found is None:
                self.wrong("logs", f"{path}: not a record: {record}")
                continue
            stream, pod, name, run, said, count = found.groups()
            self.node.lines += 1
            if (pod, name, said) != (self.name, label, stream):
                self.wrong("logs", f"{path}: of somebody else: {record}")
            if number not in (None, int(run)):
                self.wrong("logs", f"{path}: of two runs: {record}")
            number = int(run)
            if int(count) != counts[stream] + 1:
                self.wrong("logs", f"{path}: {count} comes after {counts[stream]} in {stream}")
                self.node.gaps += 1
            counts[stream] = int(count)
        return number, counts

    def judge_object(self, label, logs):
        """Exit codes in the final object are those that the programs ended with."""
        try:
            with open(f"{self.folder}/objects/{self.name}.json") as file:
                status = json.load(file)["status"]
        except FileNotFoundError:
            return
        found = {
            s["name"]: s
            for s in (*status.get("initContainerStatuses", ()), *status["containerStatuses"])
        }.get(label)
        if found is None or not self.runs[label]:
            return
        by_attempt = {attempt: number for number, (attempt, _) in logs.items()}
        restarts = found["restartCount"]
        ends = [(restarts, found["state"].get("terminated"))]
        ends.append((restarts - 1, found.get("lastState", {}).get("terminated")))
        for attempt, shown in ends:
            number = by_attempt.get(attempt)
            if shown is None or number is None:
                continue
            run = self.runs[label][number - 1]
            self.node.codes += 1
            unknown = shown["reason"] == "ContainerStatusUnknown"
            self.node.unknown += unknown
            code = shown["exitCode"]
            if unknown and code != 137:
                self.wrong("exit codes", f"{label}/{attempt}: unknown, with code {code}")
            until = run.until if run.until is not None else self.trail[-1].at
            by_itself = self.how(label) == "wild" and self.killed(run.begin, until, LOSSY)
            if unknown and not self.is_lossy(run.begin, until) and not by_itself:
                self.wrong("exit codes", f"{label}/{attempt} is unknown, but ended with {run.code}")
            # SIGKILL may come between the word and the end.
            cut = code == 137 and run.term and (run.end or 0) - run.term >= self.grace - CUT
            if not unknown and run.code is not None and code != run.code and not cut:
                self.wrong("exit codes", f"{label}/{attempt} ended with {run.code}, not {code}")
            # What nobody reads from any more ends its writer, and a reaper may know that.
            pipe = code == 128 + 13 and self.is_unread(run.begin, until)
            if not unknown and run.code is None and code != 137 and run.until is None and not pipe:
                self.wrong("exit codes", f"{label}/{attempt}: {code} from nowhere")
        newest = max(by_attempt, default=-1)
        if newest > restarts:
            self.wrong("exit codes", f"{label}: restartCount {restarts}, but attempt {newest} ran")


class Node:
    def __init__(self, folder):
        self.folder = folder
        self.violations = []
        self.hooks = self.repeated = self.runs = self.lines = self.gaps = 0
        self.codes = self.unknown = 0
        self.lives = []  # of the supervisor: (begin, end)
        begin = None
        with open(f"{folder}/journal") as file:
            for line in file:
                at, what, *more = line.split()
                if what == "ready":
                    begin = float(at)
                elif begin is not None and (
                    what == "down" or (what == "kill" and more[0] in ("supervisor", "both", "all"))
                ):
                    self.lives.append((begin, float(at)))
                    begin = None
                elif what == "stuck":
                    self.wrong("in time", " ".join(more))

    def wrong(self, rule, text, story=()):
        self.violations.append({"rule": rule, "text": text, "story": list(story)})

    def longest_life(self, begin, end):
        """Of the supervisor, within these times."""
        return max((min(e, end) - max(b, begin) for b, e in self.lives), default=0.0)

    def age(self, at):
        """Of the supervisor's life at this time."""
        return min((at - begin for begin, end in self.lives if begin <= at <= end), default=0.0)

    def check(self):
        for path in sorted(glob.glob(f"{self.folder}/trail/*")):
            Pod(os.path.basename(path), self.folder, self).follow()
        self.check_processes()
        self.check_pauses()
        for place in ("logs", "pods"):
            left = glob.glob(f"{self.folder}/state/{place}/*")
            if left:
                self.wrong("nothing left", f"{place} of pods that are gone: {left}")

    def check_pauses(self):
        for path in glob.glob(f"{self.folder}/pauses/*"):
            with open(path) as file:
                said = dict(line.split(" ", 1) for line in file.read().splitlines())
            try:
                with open(f"/proc/{said['pid']}/stat") as file:
                    words = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if words[19] == said["start"]:
                self.wrong("nothing left", f"pause {said['pid']} is there, {words[0]}")

    def check_processes(self):
        # A failpoint of the last life may be hit at its end: then its launcher ends after it.
        deadline = time.monotonic() + ENDING
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        for name, words in left:
            self.wrong("nothing left", f"process {name}: {words}")

    def processes(self):
        """Those that have something of this node's in their words or environment."""
        left = []
        mark = self.folder.encode()
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) in (os.getpid(), os.getppid()):
                continue
            try:
                found = b""
                for part in ("environ", "cmdline"):
                    with open(f"/proc/{name}/{part}", "rb") as file:
                        found += file.read()
            except OSError:
                continue
            if mark in found:
                left.append((name, found[-300:].replace(b"\0", b" ").decode(errors="replace")))
        return left


def main():
    node = Node(sys.argv[1])
    node.check()
    counts = {
        name: getattr(node, name)
        for name in ("hooks", "repeated", "runs", "lines", "gaps", "codes", "unknown")
    }
    print(json.dumps({"violations": node.violations, **counts}))
    sys.exit(1 if node.violations else 0)


if __name__ == "__main__":
    main()
