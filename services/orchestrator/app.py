"""The orchestrator, wired: settings, engine, workflow, servicer. Nothing is decided here."""

from __future__ import annotations

from importlib.metadata import version

import masquerade
from services.common.deps import Registration, ServiceDeps
from services.common.inference.cpu import cpu_level
from services.common.inference.models import read_models
from services.orchestrator.client import WirePeers
from services.orchestrator.convert import snapshot_of
from services.orchestrator.engine_dbos import DbosEngine, DbosSettings
from services.orchestrator.jobs import Jobs
from services.orchestrator.peers import Environment
from services.orchestrator.progress import Board, frames_counted
from services.orchestrator.servicer import SERVICE, OrchestratorServicer
from services.orchestrator.settings import OrchestratorSettings
from services.orchestrator.workflow import Workflow, WorkflowSettings


async def build(deps: ServiceDeps, settings: OrchestratorSettings | None = None) -> list[Registration]:
    """Wire the service; `settings` unset means: read from the environment and the data folder."""
    chosen = settings or OrchestratorSettings.load()
    runtime = deps.runtime

    def environment() -> Environment:
        cards = read_models(chosen.model_repository)
        return Environment(
            software=masquerade.__version__,
            runtime="none" if runtime is None else runtime.name,
            # Also those that a library runs, and the inference door does not serve.
            models={name: card.digest for name, card in cards.items() if card.weights.sha256 is not None},
            # PyAV's wheel carries the encoders: its version names their build.
            encoder=f"av {version('av')}",
            machine=cpu_level(),
            profile=chosen.profile,
            policy=chosen.policy,
        )

    board = Board(live_frames=frames_counted)
    workflow = Workflow(
        peers=WirePeers(deps.channels, step_s=chosen.step_timeout_s),
        store=deps.store,
        environment=environment,
        board=board,
        settings=WorkflowSettings(chosen.segment_frames, chosen.plane_digests),
    )
    engine = DbosEngine(
        DbosSettings(
            database=chosen.database_url(),
            executor=chosen.executor,
            workers=chosen.segments_at_once,
            jobs=chosen.jobs_at_once,
            segment_attempts=chosen.segment_attempts,
        )
    )
    servicer = OrchestratorServicer(Jobs(engine, board, snapshot_of=snapshot_of))

    async def warm() -> None:
        # It goes on with what was running when this executor last stopped.
        await engine.start(workflow.bodies())

    return [Registration(service=SERVICE, add=servicer.add_to, warm=warm, close=engine.stop)]
