"""The whole campaign: `make torture`, some minutes, never part of `make test`.

Presses Ctrl-C until every phase has had its share, twice and three times in a row, then ends runs
in the other ways; prints a table phase x count and every run that did not end as it should.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from msgspec.structs import replace

from tests.torture import harness
from tests.torture.harness import How, Phase, Result, Trial, random_trial

_PHASES = [phase for phase in Phase if phase is not Phase.ENDED]


class Campaign:
    def __init__(self, jobs: int, seed: int, isolation: str) -> None:
        self.isolation = isolation
        self.luck = random.Random(seed)
        self.results: list[Result] = []
        # A process of its own each: what a run leaves behind is then surely its own.
        self.pool = ProcessPoolExecutor(jobs, get_context("spawn"), harness.be_subreaper)

    def run(self, trials: list[Trial]) -> list[Result]:
        trials = [replace(trial, isolation=self.isolation) for trial in trials]
        results = list(self.pool.map(harness.run, trials))
        self.results += results
        for result in results:
            if result.failures:
                report(result)
        return results

    def spread(self, how: How, presses: int, count: int) -> None:
        """So many runs, over all phases alike."""
        phases = [_PHASES[i % len(_PHASES)] for i in range(count)]
        self.run([random_trial(how, phase, presses, self.luck) for phase in phases])

    def fill(self, share: int) -> None:
        """Single Ctrl-Cs until each phase has had its share."""
        for _ in range(10):
            had = Counter(r.phases[0] for r in self.results if r.trial.how is How.CTRL_C)
            missing = [p for p in _PHASES for _ in range(max(0, share - had[p]))]
            if not missing:
                return
            self.run([random_trial(How.CTRL_C, phase, 1, self.luck) for phase in missing])
        print(f"a phase has not been met {share} times", file=sys.stderr)


def report(result: Result) -> None:
    trial = result.trial
    print(f"\nFAILED: {', '.join(result.failures)}")
    print(f"  {trial.how}, in: {', '.join(result.phases)}; {trial}")
    print(f"  status {result.status}, {result.taken:.2f} s after the first press")
    print("".join(f"  > {line}\n" for line in result.output.splitlines()[-40:]), flush=True)


def table(results: list[Result]) -> None:
    columns: list[tuple[str, list[Result]]] = []
    for presses, name in ((1, "Ctrl-C"), (2, "twice"), (3, "3 times")):
        columns.append(
            (
                name,
                [
                    r
                    for r in results
                    if r.trial.how is How.CTRL_C and len(r.trial.gaps) == presses - 1
                ],
            )
        )
    names = {How.HANGUP: "closed", How.SIGHUP: "HUP", How.SIGTERM: "TERM", How.READER: "reader"}
    columns += [(name, [r for r in results if r.trial.how is how]) for how, name in names.items()]
    print(f"\n{'phase at the first press':<26}" + "".join(f"{name:>9}" for name, _ in columns))
    for phase in Phase:
        counts = [sum(r.phases[0] is phase for r in found) for _, found in columns]
        print(f"{phase:<26}" + "".join(f"{count:>9}" for count in counts))
    print(f"{'all':<26}" + "".join(f"{len(found):>9}" for _, found in columns))
    failed = [sum(bool(r.failures) for r in found) for _, found in columns]
    print(f"{'failed':<26}" + "".join(f"{count:>9}" for count in failed))
    slowest = [max((r.taken for r in found), default=0.0) for _, found in columns]
    print(f"{'slowest end, s':<26}" + "".join(f"{taken:>9.2f}" for taken in slowest))


def start_up(results: list[Result]) -> None:
    """Python's own start is not ours; how often it shows is worth knowing."""
    early = [r for r in results if r.phases[0] is Phase.INTERPRETER]
    early = [r for r in early if r.trial.how is How.CTRL_C]
    handled = sum(r.handler for r in early)
    swallowed = sum(r.swallowed for r in results)
    shown = sum(r.start_up_traceback for r in results)
    print(
        f"\nCtrl-C in Python's own start: {len(early)}, {handled} of them after it had installed "
        f"its own handler; its traceback was shown {shown} times, "
        f"{swallowed} times it swallowed the signal"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--share", type=int, default=25, help="single Ctrl-Cs per phase")
    parser.add_argument("--again", type=int, default=50, help="runs with two, and with three")
    parser.add_argument("--others", type=int, default=40, help="runs ended in each other way")
    parser.add_argument("--jobs", type=int, default=6, help="runs at the same time")
    parser.add_argument("--isolation", default="auto", help="as of `podvisor run`")
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}, {options.jobs} runs at the same time", flush=True)
    begin = time.monotonic()
    campaign = Campaign(options.jobs, seed, options.isolation)
    with campaign.pool:
        campaign.fill(options.share)
        for presses in (2, 3):
            campaign.spread(How.CTRL_C, presses, options.again)
        for how in (How.HANGUP, How.SIGHUP, How.SIGTERM, How.READER):
            campaign.spread(how, 1, options.others)
    table(campaign.results)
    start_up(campaign.results)
    failed = sum(bool(r.failures) for r in campaign.results)
    taken = time.monotonic() - begin
    print(f"\n{len(campaign.results)} runs in {taken:.0f} s, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
