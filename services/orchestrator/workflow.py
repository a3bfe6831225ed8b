"""The durable job: which steps, in which order, with which keys.

Each step is one call of one service. The body holds no clock, no chance and no input but its spec and what steps
answered, so that after a crash it takes the same way again.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from services.common.errors import InvalidSpec, MasqueradeError, NoIdentity, ObjectMissing, UnknownProfile
from services.common.logs import log_fields
from services.common.store.objects import ObjectStore
from services.common.tree_memory import Peak, TreeMemory
from services.orchestrator import casting, mending, models, report, rerendering
from services.orchestrator.choosing import choose
from services.orchestrator.engine.port import Body, JsonObject, Steps
from services.orchestrator.failures import Failure, WorkFailed
from services.orchestrator.in_flight import InFlight
from services.orchestrator.ledger import Ledger
from services.orchestrator.orders import Orders
from services.orchestrator.peers import Environment, Peers
from services.orchestrator.progress import Board, JobState, Snapshot
from services.orchestrator.publishing import Publishing, check_consent
from services.orchestrator.spec import JobIdentity, JobSpec, Rerender, read_spec

log = logging.getLogger(__name__)

TRANSFORM, REPUBLISH, ASK = "transform", "republish", "ask"


@dataclass(frozen=True, slots=True)
class WorkflowSettings:
    """What the operator chose for all jobs."""

    segment_frames: int = 0
    """Wanted frames in a segment; 0 leaves it to ingest."""

    plane_digests: bool = False
    """Write a digest of the planes of every frame, unless the job says otherwise."""


class Workflow:
    """Bodies for the engine, and what they need."""

    def __init__(
        self,
        *,
        peers: Peers,
        store: ObjectStore,
        environment: Callable[[], Environment],
        board: Board,
        settings: WorkflowSettings,
        ledger: Ledger,
        places: Mapping[str, Path] | None = None,
    ) -> None:
        """Args:
        peers: the other services.
        store: where objects are.
        environment: what results depend on beside inputs and settings.
        board: progress of the jobs of this process.
        settings: what the operator chose for all jobs.
        ledger: the book of jobs.
        places: second places for results, by name.
        """
        self.peers = peers
        self.store = store
        self.environment = environment
        self.board = board
        self.settings = settings
        self.ledger = ledger
        self.places = places or {}
        self.memory = TreeMemory()
        self.in_flight = InFlight()

    def bodies(self) -> Mapping[str, Body]:
        """By the names under which runs are submitted."""
        return {TRANSFORM: self._transform, REPUBLISH: self._republish, ASK: self._ask}

    async def ask(self, job: str, rpc: str, request: JsonObject) -> JsonObject:
        """Call a peer for a job."""
        return await self.in_flight.during(job, lambda: self.peers.ask(rpc, request))

    async def _transform(self, steps: Steps, value: JsonObject) -> JsonObject:
        async with self._told(steps):
            spec = read_spec(value)
            async with self.memory.watched() as peak:
                return await _Transform(self, steps, spec, peak).run()

    async def _republish(self, steps: Steps, value: JsonObject) -> JsonObject:
        """The result is there already, and only its second places are not."""
        async with self._told(steps):
            return await self.publishing(steps).again(read_spec(value))

    def publishing(self, steps: Steps) -> Publishing:
        """The last part of a job."""
        return Publishing(self.ledger, self.store, self.places, steps, self.board, self.in_flight)

    @contextlib.asynccontextmanager
    async def _told(self, steps: Steps) -> AsyncIterator[None]:
        """Failures as the engine keeps them; the board forgets the job at its end."""
        try:
            with log_fields(job=steps.job):
                yield
        except Exception as error:
            failure = self._placed(Failure.of(error), steps.job)
            is_ours = not isinstance(error, (WorkFailed, MasqueradeError))
            log.log(
                logging.ERROR if is_ours else logging.INFO,
                "job failed",
                extra={"job": steps.job, "step": failure.stage, "fields": {"reason": failure.reason, **failure.fields}},
                exc_info=error if is_ours else None,
            )
            raise WorkFailed(failure) from error
        finally:
            self.board.forget(steps.job, owner=steps)

    def _placed(self, failure: Failure, job: str) -> Failure:
        """A failure between two steps happened in the state that the job was in."""
        place = self.board.look(job)
        return failure if failure.stage or place is None else replace(failure, stage=place.state.name.lower())

    async def _ask(self, steps: Steps, item: JsonObject) -> JsonObject:
        """A segment: one call."""
        rpc, request = str(item["rpc"]), item["request"]
        assert isinstance(request, dict)
        # The fields travel to the service that is called, and on to those that it calls.
        with log_fields(job=steps.job, segment=_number(request)):
            return await steps.call(rpc, lambda: self.ask(steps.job, rpc, request))


def _number(request: JsonObject) -> int | None:
    """Of the segment that a request is about."""
    segment = request.get("segment")
    return int(str(segment["number"])) if isinstance(segment, dict) else None


class _Transform:
    """One job on its way through the stages."""

    def __init__(self, workflow: Workflow, steps: Steps, spec: JobSpec, peak: Peak) -> None:
        self._workflow = workflow
        self._steps = steps
        self._spec = spec
        self._peak = peak
        self._board = workflow.board
        self._clock = _StageClock()
        self._notes: list[str] = []
        self._attempt = 0
        self._done = 0
        self._renders: list[JsonObject] = []

    async def run(self) -> JsonObject:
        """All stages; answers what `convert.py` makes a Job of."""
        spec, steps = self._spec, self._steps
        inputs: Any = await steps.call("inspect", self._inspect)
        self._attempt = int(inputs.get("attempt", 0))
        await self._enter(JobState.ANALYSING)
        served = inputs["environment"]["profile"]
        if spec.profile not in (None, served):
            # Defaults are the services' own: one that runs another profile would give another result under this name.
            raise UnknownProfile(profile=str(spec.profile), known=served)
        plane_digests = spec.proof.plane_digests
        orders = Orders(
            spec=spec,
            tenant=steps.tenant,
            job=steps.job,
            inputs=inputs,
            plane_digests=self._workflow.settings.plane_digests if plane_digests is None else plane_digests,
        )
        with self._clock.stage("index"):
            index = await self._ask("ingest.Index", orders.index())
            plan = await self._ask("ingest.Plan", orders.plan(index, self._workflow.settings.segment_frames))
            backdrop = await self._background_index(orders)
        with self._clock.stage("enrol"):
            identities = {identity.name: await self._enrol(orders, identity, inputs) for identity in spec.identities}
        timeline = await self._timeline(orders, index, plan) if identities else None
        people = [person["person"] for person in timeline["summary"]["people"]] if timeline else []
        chosen, notes = casting.cast(spec.cast, identities=list(identities), people=people)
        self._notes += notes
        cast = casting.entries(chosen, {name: answer["identity"] for name, answer in identities.items()})
        rendered = await self._render(orders, index, plan, timeline=timeline, cast=cast, backdrop=backdrop)
        used = await self._models(inputs, timeline)
        outcome = await self._finish(orders, index, plan, rendered, models=used)
        found = report.Findings(
            spec=spec,
            inputs=inputs,
            index=index,
            plan=plan,
            timeline=timeline,
            cast=cast,
            identities=identities,
            notes=tuple(self._notes),
            seconds=self._clock.seconds,
            peak_pss_mb=round(self._peak.mib, 1),
            models=used,
            **outcome,
        )
        write = partial(report.write, found, self._workflow.store, orders.report_key)
        written = await steps.call("report", partial(self._workflow.in_flight.during, steps.job, write))
        result: JsonObject = {
            "artifact": outcome["finalised"]["artifact"],
            "record": outcome["finalised"]["record"],
            "report": written,
            "timeline": timeline["summary"] if timeline else None,
            "timeline_object": timeline["timeline"] if timeline else None,
            "frames": outcome["verified"]["frames"],
        }
        await self._workflow.publishing(steps).first(spec, result, attempt=self._attempt)
        return result

    async def _enter(self, state: JobState, *, total: int = 0) -> None:
        """The job comes into a stage: first in the book, then on the board."""
        await self._workflow.ledger.enter(self._steps.job, self._attempt, state, total=total)
        self._show(state, total=total)

    def _show(self, state: JobState, *, total: int = 0) -> None:
        self._done = 0
        self._board.enter(self._steps.job, state, total=total, attempt=self._attempt, owner=self._steps)

    def _segment_done(self, state: JobState, total: int) -> Callable[[JsonObject], None]:
        """What to do at the end of each segment of a stage."""

        def tell(answer: JsonObject) -> None:
            frames = int(str(answer["frames"]))
            self._done += frames
            self._board.add(self._steps.job, frames)
            place = Snapshot(state, min(self._done, total), total, attempt=self._attempt)
            self._workflow.ledger.finished(self._steps.job, place)

        return tell

    async def _inspect(self) -> JsonObject:
        """Digests of everything that goes in: keys are made of these and not of names."""
        store, spec = self._workflow.store, self._spec
        wanted = [spec.asset_key]
        wanted += [key for identity in spec.identities for key in identity.portrait_keys]
        wanted += [identity.landmarks_key for identity in spec.identities if identity.landmarks_key]
        wanted += [spec.background.asset_key] if spec.background.asset_key else []
        digests: JsonObject = {}
        for key in wanted:
            stored = await store.stat(key)
            if stored is None:
                raise ObjectMissing(key=key)
            digests[key] = stored.digest
        return {
            "attempt": await self._workflow.ledger.begin(self._steps.job),
            "digests": digests,
            "environment": self._workflow.environment().to_json(),
            # Once a job: whatever a service's settings become, it is told from now on what to do.
            "chosen": await choose(spec, partial(self._workflow.ask, self._steps.job)),
        }

    async def _background_index(self, orders: Orders) -> Any:
        if self._spec.background.kind != "video":
            return None
        return await self._ask("ingest.Index", orders.background_index())

    async def _enrol(self, orders: Orders, identity: JobIdentity, inputs: JsonObject) -> Any:
        if identity.identity_id is not None:
            if identity.enrolled is None:
                raise NoIdentity(identity=identity.identity_id)
            return identity.enrolled.answer()
        landmarks: list[float] = []
        if identity.landmarks_key is not None:
            landmarks = report.floats(await self._workflow.store.get_bytes(identity.landmarks_key))
            if len(identity.portrait_keys) != 1:
                raise InvalidSpec(field="identities", problem="a drawn face has exactly one portrait")
        request = orders.enrol(identity, landmarks)
        return await self._ask("detector.Enroll", request)

    async def _timeline(self, orders: Orders, index: Any, plan: Any) -> Any:
        steps, frames = self._steps, int(index["info"]["frames"])
        if self._spec.rerender is not None:
            adopt = partial(self._adopt, self._spec.rerender)
            adopted = await steps.call("adopt", partial(self._workflow.in_flight.during, steps.job, adopt))
            rerendering.check_same_video(adopted, index)
            return adopted
        with self._clock.stage("analyse"):
            self._show(JobState.ANALYSING, total=frames)
            requests = [orders.analyse(index, segment) for segment in plan["segments"]]
            observed = await steps.each(
                "analyse",
                ASK,
                [{"rpc": "detector.AnalyseSegment", "request": request} for request in requests],
                ended=self._segment_done(JobState.ANALYSING, frames),
            )
        with self._clock.stage("link"):
            await self._enter(JobState.LINKING, total=frames)
            linked = await self._ask("detector.Link", orders.link(index, plan, observed))
        return {"timeline": linked["timeline"], "summary": linked["summary"]}

    async def _adopt(self, source: Rerender) -> JsonObject:
        store, steps = self._workflow.store, self._steps
        return await rerendering.adopt_timeline(
            store, tenant=steps.tenant, source=source.of, target=steps.job, result=dict(source.result)
        )

    async def _render(
        self, orders: Orders, index: Any, plan: Any, *, timeline: Any, cast: Any, backdrop: Any
    ) -> list[Any]:
        steps = self._steps
        self._renders = [
            {"rpc": "compositor.RenderSegment", "request": request}
            for segment in plan["segments"]
            if (request := orders.render(index, plan, segment, timeline=timeline, cast=cast, backdrop=backdrop))
        ]
        with self._clock.stage("render"):
            total = orders.kept_frames(index, plan)
            await self._enter(JobState.RENDERING, total=total)
            ended = self._segment_done(JobState.RENDERING, total)
            return await steps.each("render", ASK, self._renders, ended=ended)

    async def _models(self, inputs: Any, timeline: Any) -> dict[str, str]:
        """Digests of the models that had a part in it."""
        environment = inputs["environment"]
        used = models.painted_with(inputs["chosen"], environment["models"])
        if timeline:
            used |= await models.looked_with(self._workflow.store, timeline["timeline"]["key"])
        return dict(sorted(used.items()))

    async def _finish(
        self, orders: Orders, index: Any, plan: Any, rendered: Sequence[Any], *, models: Mapping[str, str]
    ) -> dict[str, Any]:
        with self._clock.stage("assemble"):
            await self._enter(JobState.ASSEMBLING)
            assembled, rendered = await mending.assembled(
                rendered,
                assemble=lambda segments: self._ask("compositor.Assemble", orders.assemble(index, plan, segments)),
                again=lambda: self._steps.each("mend", ASK, self._renders),
            )
        with self._clock.stage("verify"):
            await self._enter(JobState.VERIFYING)
            verified = await self._ask("compositor.Verify", orders.verify(index, plan, assembled))
        with self._clock.stage("finalise"):
            await self._enter(JobState.PUBLISHING)
            await check_consent(self._workflow.ledger, self._steps.job, self._attempt)
            record = report.record(self._spec, orders.inputs, models=models, notes=self._notes, assembled=assembled)
            finalised = await self._ask("compositor.Finalise", orders.finalise(assembled, record))
        return {"rendered": rendered, "assembled": assembled, "verified": verified, "finalised": finalised}

    async def _ask(self, rpc: str, request: JsonObject) -> Any:
        return await self._steps.call(rpc, lambda: self._workflow.ask(self._steps.job, rpc, request))


class _StageClock:
    """Seconds that this attempt spent in each stage; a stage whose work was found finished takes next to none."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def stage(self, name: str) -> _StageTimer:
        """Measure a block."""
        return _StageTimer(self.seconds, name)


@dataclass(slots=True)
class _StageTimer:
    seconds: dict[str, float]
    name: str
    began: float = 0.0

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.seconds[self.name] = round(time.monotonic() - self.began, 3)
