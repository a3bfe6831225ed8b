"""The durable job: which steps, in which order, with which keys.

Each step is one call of one service. The body holds no clock, no chance and no input but its spec and what steps
answered, so that after a crash it takes the same way again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from services.common import metrics
from services.common.errors import InvalidSpec, MasqueradeError, NoIdentity, ObjectMissing, UnknownProfile
from services.common.logs import log_fields
from services.common.store.objects import ObjectStore
from services.common.tree_memory import Peak, TreeMemory
from services.orchestrator import casting, models, report
from services.orchestrator.engine import Body, JsonObject, Steps
from services.orchestrator.failures import Failure, WorkFailed
from services.orchestrator.orders import Orders
from services.orchestrator.peers import Environment, Peers
from services.orchestrator.progress import Board, JobState
from services.orchestrator.spec import JobIdentity, JobSpec, read_spec

log = logging.getLogger(__name__)

TRANSFORM, ASK = "transform", "ask"


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
    ) -> None:
        self.peers = peers
        self.store = store
        self.environment = environment
        self.board = board
        self.settings = settings
        self.memory = TreeMemory()

    def bodies(self) -> Mapping[str, Body]:
        """By the names under which runs are submitted."""
        return {TRANSFORM: self._transform, ASK: self._ask}

    async def _transform(self, steps: Steps, value: JsonObject) -> JsonObject:
        try:
            spec = read_spec(value)
            with log_fields(job=steps.job):
                async with self.memory.watched() as peak:
                    result = await _Transform(self, steps, spec, peak).run()
        except Exception as error:
            failure = Failure.of(error)
            is_ours = not isinstance(error, (WorkFailed, MasqueradeError))
            log.log(
                logging.ERROR if is_ours else logging.INFO,
                "job failed",
                extra={"job": steps.job, "step": failure.stage, "fields": {"reason": failure.reason, **failure.fields}},
                exc_info=error if is_ours else None,
            )
            metrics.JOBS_ENDED.labels("failed").inc()
            raise WorkFailed(failure) from error
        else:
            metrics.JOBS_ENDED.labels("succeeded").inc()
            return result
        finally:
            self.board.forget(steps.job, attempt=steps)

    async def _ask(self, steps: Steps, item: JsonObject) -> JsonObject:
        """A segment: one call."""
        rpc, request = str(item["rpc"]), item["request"]
        assert isinstance(request, dict)
        # The fields travel to the service that is called, and on to those that it calls.
        with log_fields(job=steps.job, segment=_number(request)):
            return await steps.call(rpc, lambda: self.peers.ask(rpc, request))


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

    async def run(self) -> JsonObject:
        """All stages; answers what `convert.py` makes a Job of."""
        spec, steps = self._spec, self._steps
        self._enter(JobState.ANALYSING)
        inputs: Any = await steps.call("inspect", self._inspect)
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
            rendered=rendered,
            notes=tuple(self._notes),
            seconds=self._clock.seconds,
            peak_pss_mb=round(self._peak.mib, 1),
            models=used,
            **outcome,
        )
        written = await steps.call("report", lambda: report.write(found, self._workflow.store, orders.report_key))
        return {
            "artifact": outcome["finalised"]["artifact"],
            "record": outcome["finalised"]["record"],
            "report": written,
            "timeline": timeline["summary"] if timeline else None,
            "frames": outcome["verified"]["frames"],
        }

    def _enter(self, state: JobState, *, total: int = 0) -> None:
        self._board.enter(self._steps.job, state, total=total, attempt=self._steps)

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
        return {"digests": digests, "environment": self._workflow.environment().to_json()}

    async def _background_index(self, orders: Orders) -> Any:
        if self._spec.background.kind != "video":
            return None
        return await self._ask("ingest.Index", orders.background_index())

    async def _enrol(self, orders: Orders, identity: JobIdentity, inputs: JsonObject) -> Any:
        if identity.identity_id is not None:
            # Enrolled identities come with the public API; until then there is nothing to find under an id.
            raise NoIdentity(identity=identity.identity_id)
        landmarks: list[float] = []
        if identity.landmarks_key is not None:
            landmarks = report.floats(await self._workflow.store.get_bytes(identity.landmarks_key))
            if len(identity.portrait_keys) != 1:
                raise InvalidSpec(field="identities", problem="a drawn face has exactly one portrait")
        request = orders.enrol(identity, landmarks)
        return await self._steps.call("detector.Enroll", lambda: self._workflow.peers.ask("detector.Enroll", request))

    async def _timeline(self, orders: Orders, index: Any, plan: Any) -> Any:
        steps = self._steps
        with self._clock.stage("analyse"):
            self._enter(JobState.ANALYSING, total=index["info"]["frames"])
            requests = [orders.analyse(index, segment) for segment in plan["segments"]]
            observed = await steps.each(
                "analyse",
                ASK,
                [{"rpc": "detector.AnalyseSegment", "request": request} for request in requests],
                ended=lambda answer: self._board.add(steps.job, int(str(answer["frames"]))),
            )
        with self._clock.stage("link"):
            self._enter(JobState.LINKING, total=index["info"]["frames"])
            linked = await self._ask("detector.Link", orders.link(index, plan, observed))
        return {"timeline": linked["timeline"], "summary": linked["summary"]}

    async def _render(
        self, orders: Orders, index: Any, plan: Any, *, timeline: Any, cast: Any, backdrop: Any
    ) -> list[Any]:
        steps = self._steps
        requests = [
            request
            for segment in plan["segments"]
            if (request := orders.render(index, plan, segment, timeline=timeline, cast=cast, backdrop=backdrop))
        ]
        with self._clock.stage("render"):
            self._enter(JobState.RENDERING, total=orders.kept_frames(index, plan))
            return await steps.each(
                "render",
                ASK,
                [{"rpc": "compositor.RenderSegment", "request": request} for request in requests],
                ended=lambda answer: self._board.add(steps.job, int(str(answer["frames"]))),
            )

    async def _models(self, inputs: Any, timeline: Any) -> dict[str, str]:
        """Digests of the models that had a part in it."""
        environment = inputs["environment"]
        used = models.painted_with(self._spec, environment["models"], profile=environment["profile"])
        if timeline:
            used |= await models.looked_with(self._workflow.store, timeline["timeline"]["key"])
        return dict(sorted(used.items()))

    async def _finish(
        self, orders: Orders, index: Any, plan: Any, rendered: list[Any], *, models: Mapping[str, str]
    ) -> dict[str, Any]:
        with self._clock.stage("assemble"):
            self._enter(JobState.ASSEMBLING)
            assembled = await self._ask("compositor.Assemble", orders.assemble(index, plan, rendered))
        with self._clock.stage("verify"):
            self._enter(JobState.VERIFYING)
            verified = await self._ask("compositor.Verify", orders.verify(index, plan, assembled))
        with self._clock.stage("finalise"):
            self._enter(JobState.PUBLISHING)
            record = report.record(self._spec, orders.inputs, models=models, notes=self._notes, assembled=assembled)
            finalised = await self._ask("compositor.Finalise", orders.finalise(assembled, record))
        return {"assembled": assembled, "verified": verified, "finalised": finalised}

    async def _ask(self, rpc: str, request: JsonObject) -> Any:
        return await self._steps.call(rpc, lambda: self._workflow.peers.ask(rpc, request))


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
