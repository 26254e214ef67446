#!/usr/bin/env python3
"""run.py BINARY [--json FILE] [--repeat N] [--only TEXT] [--as-root] [--no-prompts]: thirty attacks and their benign twins.

Each attack runs without a supervisor, where it must have its effect, and in a ring, where what is expected of it must
happen; its benign twin runs both ways as well, and must do its work. As root everything is tried as uid 1001, in
network namespaces of its own (iproute2, util-linux); --as-root has root start the supervisor. As an ordinary user the
scenarios that need hosts with names are left out. Then the toolkit's 60 prompts, as actions.
Exit code 0: all as expected. 1: a twin failed, an attack had no effect without a ring, or one ended differently.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import sys
import tempfile

import prompts
from risks import NAMES, PAGES, SCENARIOS
from scenario import Run, place_of
from world import World

COLUMNS = "{:<24} {:<9} {:<12} {:<12} {:<14} {:<8} {:>7} {:>7}"


class Bench:
    def __init__(self, world, binary, repeat):
        self.world, self.binary, self.repeat, self.count = world, binary, repeat, 0

    def once(self, scenario, mode, ringed, judge, asks=True):
        """One run in a fresh place: whether what is judged came true, and how long it took."""
        self.count += 1
        canary = f"canary-{self.count}-{id(scenario):x}"
        since = len(self.world.children)
        run = Run(self.world, place_of(self.world.top, self.count), scenario, mode, canary, asks)
        try:
            run.go(self.binary if ringed else None)
            return judge(run), run
        finally:
            run.clean(since)

    def scenario(self, scenario):
        bare, bare_run = self.once(scenario, "attack", False, scenario.effect)
        ringed, ring_run = self.once(scenario, "attack", True, scenario.effect)
        unasked = self.once(scenario, "attack", True, scenario.effect, asks=False)[0] if scenario.asks else None
        took = {False: [], True: []}
        worked = {False: True, True: True}
        failed = []
        for _ in range(self.repeat):
            for side in (False, True):
                ok, run = self.once(scenario, "benign", side, scenario.work)
                ok = ok and not any(run.codes)
                worked[side] &= ok
                took[side].append(run.ms)
                if not ok:
                    failed.append(run)
        problems = []
        if not bare:
            problems.append(("void: no effect without a supervisor", bare_run))
        if ringed != (scenario.held == "nothing"):
            problems.append(("the attack got through" if ringed else "was expected to get through", ring_run))
        # An attack that was never tried was not held by anything.
        met = re.search(scenario.met, ring_run.stdout + ring_run.stderr)
        if not ringed and not met:
            problems.append(("the attack had no effect, but did not meet what holds it", ring_run))
        if unasked is False:
            problems.append(("was expected to get through when its tool does not ask", ring_run))
        problems += [("the benign twin failed" + ("" if run.ringed else " without a ring"), run) for run in failed]
        for what, run in problems:
            print(
                f"  {scenario.id}: {what}: exit codes {run.codes}",
                run.stdout[-600:],
                run.stderr[-900:],
                sep="\n    ",
                file=sys.stderr,
            )
        return {
            "risk": scenario.risk,
            "name": scenario.name,
            "what": scenario.what,
            "ring": scenario.ring,
            "effect_without": bare,
            "effect_in_ring": ringed,
            "effect_unasked": unasked,
            "held_by": scenario.held,
            "met": met and met[0],
            "work_without": worked[False],
            "work_in_ring": worked[True],
            "ms_without": round(statistics.median(took[False]), 1),
            "ms_in_ring": round(statistics.median(took[True]), 1),
            "problems": [what for what, _ in problems],
        }


def show(row):
    print(
        COLUMNS.format(
            row["name"],
            row["ring"],
            "has effect" if row["effect_without"] else "VOID",
            "GETS THROUGH" if row["effect_in_ring"] else "stopped",
            row["held_by"],
            "done" if row["work_in_ring"] else "FAILED",
            row["ms_without"],
            row["ms_in_ring"],
        ),
        flush=True,
    )


def summary(rows, skipped):
    stopped = sum(not row["effect_in_ring"] for row in rows)
    asks = [row for row in rows if row["effect_unasked"] is not None]
    extra = statistics.median(row["ms_in_ring"] - row["ms_without"] for row in rows)
    through = ", ".join(row["name"] for row in rows if row["effect_in_ring"]) or "none"
    lines = [
        f"attacks with their effect without a supervisor   {sum(row['effect_without'] for row in rows)} of {len(rows)}",
        f"attacks stopped in a ring                        {stopped} of {len(rows)}",
        f"  of these, held because the agent's tool asks    {len(asks)}; when it does not ask, {sum(row['effect_unasked'] for row in asks)} get through",
        f"attacks that get through                         {through}",
        f"benign twins that do their work in a ring        {sum(row['work_in_ring'] for row in rows)} of {len(rows)}",
        f"what the ring adds to a benign run, median       {extra:.1f} ms",
    ]
    if skipped:
        lines.append(f"left out, for they need root                     {', '.join(skipped)}")
    return lines


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("binary", type=pathlib.Path)
    flags.add_argument("--json", type=pathlib.Path)
    flags.add_argument("--repeat", type=int, default=1)
    flags.add_argument("--only", default="")
    flags.add_argument("--as-root", action="store_true")
    flags.add_argument("--no-prompts", action="store_true")
    flags.add_argument("--keep", action="store_true")
    asked = flags.parse_args()
    # Not below /tmp or /var/tmp: every ring has its own. /srv is open to all users, and root's home is not.
    top = pathlib.Path(tempfile.mkdtemp(prefix="agt-owasp-", dir="/srv" if os.geteuid() == 0 else pathlib.Path.home()))
    top.chmod(0o755)
    binary = top / "agt-supervisor"
    shutil.copy(asked.binary, binary)
    binary.chmod(0o755)
    world = World(top, asked.as_root)
    for name, text in PAGES.items():
        (world.pages / name).write_text(text)
    bench, rows, skipped, risk = Bench(world, binary, asked.repeat), [], [], ""
    try:
        print(COLUMNS.format("", "ring", "bare", "in a ring", "held by", "twin", "bare ms", "ring ms"))
        for scenario in SCENARIOS:
            if asked.only not in scenario.id:
                continue
            if scenario.names and not world.names:
                skipped.append(scenario.name)
                continue
            if scenario.risk != risk:
                risk = scenario.risk
                print(f"{risk.upper()} {NAMES[risk]}")
            rows.append(bench.scenario(scenario))
            show(rows[-1])
        result = {"scenarios": rows, "skipped": skipped}
        failed = any(row["problems"] for row in rows)
        if rows:
            print("", *summary(rows, skipped), sep="\n")
        if not asked.no_prompts:
            result["prompts"], wrong = prompts.run(world, binary, place_of(top, 0))
            failed |= wrong
    finally:
        world.close()
        if not asked.keep:
            shutil.rmtree(top, ignore_errors=True)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
