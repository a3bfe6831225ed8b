"""An engine in a process of its own, for tests that kill it: `python -m tests.support.engine_process PLAN`.

PLAN is JSON: `settings` of the engine, `folder` for what is written down, `jobs` to submit ({"id", "tenant", "spec"}),
and `until`: "done" ends when these have ended, "stopped" at SIGTERM. Says `ready` when it is started. Each segment
writes when it began and ended into `folder/log`, in lines that no two writers mix: the clock is the machine's own, so
lines of several processes can be compared.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import signal
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.orchestrator.engine.dbos_engine import DbosEngine, DbosSettings
from services.orchestrator.engine.port import Body, JsonObject, Steps


@dataclass(frozen=True, slots=True)
class Execution:
    """One start of a segment; `ended` is None where its process was killed."""

    job: str
    segment: int
    process: int
    began: float
    ended: float | None


def executions(folder: Path) -> list[Execution]:
    """All starts of segments that were written down."""
    open_: dict[tuple[str, int, int], float] = {}
    found = []
    for line in (folder / "log").read_text().splitlines() if (folder / "log").exists() else []:
        kind, job, segment, process, at = line.split()
        key = (job, int(segment), int(process))
        if kind in ("collected", "told"):
            continue
        if kind == "began":
            if key in open_:  # the same process was given it once more
                found.append(Execution(*key, open_[key], None))
            open_[key] = float(at)
        else:
            found.append(Execution(*key, open_.pop(key), float(at)))
    return found + [Execution(*key, began, None) for key, began in open_.items()]


def most_at_once(runs: list[Execution], killed: dict[int, float]) -> int:
    """Most of these executions that went on at the same time; `killed` says when processes ended."""
    changes = []
    for each in runs:
        end = each.ended if each.ended is not None else killed.get(each.process, time.monotonic())
        changes += [(each.began, 1), (end, -1)]
    now = most = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def overlaps(runs: list[Execution], killed: dict[int, float]) -> list[tuple[str, int]]:
    """Segments that were executed twice at the same time."""
    by_segment: dict[tuple[str, int], list[Execution]] = defaultdict(list)
    for each in runs:
        by_segment[(each.job, each.segment)].append(each)
    return [segment for segment, each in by_segment.items() if most_at_once(each, killed) > 1]


def bodies(folder: Path) -> dict[str, Body]:
    """`count` runs segments and sums their numbers; a segment sleeps, and one that is named kills its process."""

    def note(kind: str, job: str, segment: object) -> None:
        line = f"{kind} {job} {segment} {os.getpid()} {time.monotonic()}\n"
        with open(folder / "log", "a") as log:  # one small write in append mode is not mixed with others
            log.write(line)

    async def segment(steps: Steps, item: JsonObject) -> JsonObject:
        async def work() -> JsonObject:
            note("began", steps.job, item["n"])
            if item["n"] == item["poison"]:
                os.kill(os.getpid(), signal.SIGKILL)
            await asyncio.sleep(float(str(item["sleep_s"])))
            note("ended", steps.job, item["n"])
            return {"n": item["n"], "text": "x" * int(str(item["answer_bytes"]))}

        return await steps.call("work", work)

    async def count(steps: Steps, spec: JsonObject) -> JsonObject:
        told = 0

        def ended(answer: JsonObject) -> None:
            nonlocal told
            assert answer["n"] == told, "told out of order"
            told += 1
            if spec.get("hold_s"):
                note("told", steps.job, answer["n"])

        items: list[JsonObject] = [
            {
                "n": n,
                "sleep_s": spec.get("sleep_s", 0),
                "poison": spec.get("poison", -1),
                "answer_bytes": spec.get("answer_bytes", 0),
            }
            for n in range(int(str(spec["segments"])))
        ]
        answers = await steps.each("work", "segment", items, ended=ended)
        if spec.get("hold_s"):
            note("collected", steps.job, -1)
            hold_s = float(str(spec["hold_s"]))

            async def hold() -> JsonObject:
                await asyncio.sleep(hold_s)
                return {}

            await steps.call("hold", hold)
        return {"sum": sum(int(str(answer["n"])) for answer in answers), "told": told}

    return {"segment": segment, "count": count}


async def run(plan: dict[str, Any]) -> None:
    """Run the engine as planned."""
    settings = dict(plan["settings"])
    settings["adopts"] = frozenset(settings.get("adopts", ()))
    engine = DbosEngine(DbosSettings(**settings))
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    # A test that hangs may ask what for: threads at SIGUSR1, tasks at SIGUSR2.
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, _show_tasks)
    await engine.start(bodies(Path(plan["folder"])))
    print("ready", flush=True)
    for job in plan.get("jobs", []):
        await engine.submit(job["id"], "count", job["spec"], tenant=job["tenant"], number=job.get("number"))
    ids = [job["id"] for job in plan.get("jobs", [])]
    if plan.get("until") == "done":
        waiting = set(ids)
        while waiting:
            await asyncio.sleep(0.1)
            standings = await engine.statuses(ids)
            waiting = {job for job in ids if job not in standings or not standings[job].status.is_final}
        for job in ids:
            found = await engine.get(job)
            assert found is not None
            failure = found.failure and found.failure.to_json()
            print(json.dumps({"job": job, "status": found.status, "result": found.result, "failure": failure}))
    else:
        await stopped.wait()
    # Not `ru_maxrss`: it begins with what the process held that started this one.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"peak_rss_mb": int(peak.split()[1]) // 1024}), flush=True)
    await engine.stop()


def _show_tasks() -> None:
    for task in asyncio.all_tasks():
        task.print_stack(file=sys.stderr)


if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1)
    asyncio.run(run(json.loads(sys.argv[1])))
