"""The orchestrator, wired: settings, engine, workflow, servicer. Nothing is decided here."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import cast

import masquerade
from services.common.audit.anchor import Anchoring, anchorages
from services.common.deps import Registration, ServiceDeps
from services.common.inference.cpu import cpu_level
from services.common.inference.models import read_models
from services.common.records.database import Records
from services.orchestrator.admitting import Admitter
from services.orchestrator.book.admission import Limits
from services.orchestrator.checks import Facts, Looks
from services.orchestrator.client import WirePeers
from services.orchestrator.describing import Description, describe
from services.orchestrator.door.requests import Requests
from services.orchestrator.door.servicer import SERVICE as JOBS
from services.orchestrator.door.servicer import JobServicer
from services.orchestrator.ending import Ending, Keeping
from services.orchestrator.engine.dbos_engine import DbosEngine, DbosSettings
from services.orchestrator.identities.opening import registration as identities
from services.orchestrator.jobs import Jobs
from services.orchestrator.ledger import BookLedger
from services.orchestrator.offers import Catalogue
from services.orchestrator.peers import Environment, Peers
from services.orchestrator.progress import Board, frames_counted
from services.orchestrator.retention import Retention, Rules
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

    records = deps.records or Records(chosen.records_url())
    board = Board(live_frames=frames_counted)
    given = cast("Peers | None", deps.extras.get("peers"))
    peers = given or WirePeers(deps.channels, step_s=chosen.step_timeout_s)
    ledger = BookLedger(records)
    workflow = Workflow(
        peers=peers,
        store=deps.store,
        environment=environment,
        board=board,
        settings=WorkflowSettings(chosen.segment_frames, chosen.plane_digests),
        ledger=ledger,
        places=chosen.places,
    )
    engine = DbosEngine(
        DbosSettings(
            database=chosen.database_url(),
            executor=chosen.executor,
            workers=chosen.segments_at_once,
            jobs=chosen.jobs_at_once,
            segment_attempts=chosen.segment_attempts,
            tenant_workers=chosen.tenant_segments_at_once or None,
            dead_after_s=chosen.dead_after_s,
        )
    )
    ending = Ending(
        records=records,
        engine=engine,
        store=deps.store,
        board=board,
        ledger=ledger,
        keeping=Keeping(chosen.jobs_days, chosen.face_days),
        in_flight=workflow.in_flight,
    )
    limits = Limits(in_all=chosen.jobs_at_once * chosen.replicas, of_a_tenant=chosen.tenant_jobs)
    admitter = Admitter(records=records, engine=engine, ending=ending, limits=limits)
    jobs = Jobs(
        records=records,
        engine=engine,
        store=deps.store,
        board=board,
        admitter=admitter,
        ending=ending,
        most_waiting=chosen.tenant_waiting,
        most_bytes=chosen.tenant_bytes,
    )
    rules = Rules(chosen.face_days, chosen.abandoned_hours, chosen.uploads_days, chosen.sweep_s)
    retention = Retention(records=records, store=deps.store, jobs=jobs, ending=ending, rules=rules)
    anchoring = Anchoring(records, anchorages(chosen.audit_anchors, deps.store), pause_s=chosen.audit_anchor_s)
    is_open = asyncio.Event()

    async def warm() -> None:
        await records.open()
        # It goes on with what was running when this executor last stopped.
        await engine.start(workflow.bodies())
        admitter.start()
        retention.start()
        anchoring.start()
        is_open.set()

    async def close() -> None:
        await anchoring.stop()
        await retention.stop()
        await admitter.stop()
        await ledger.close()
        await engine.stop()
        if deps.records is None:
            await records.close()

    catalogue, looks = Catalogue(peers.ask), Looks(peers.ask, deps.store)

    def facts() -> Facts:
        return Facts(
            cards=read_models(chosen.model_repository),
            profile=chosen.profile,
            policy=chosen.policy,
            offers=catalogue.get,
            looks=looks,
            places=sorted(chosen.places),
        )

    async def described() -> Description:
        cards, offers = read_models(chosen.model_repository), await catalogue.all()
        return describe(cards, chosen.profile, chosen.policy, chosen.places, offers)

    inner = OrchestratorServicer(jobs)
    door = JobServicer(jobs, Requests(records, jobs, facts), described=described)

    async def opened() -> None:
        # Its server starts beside the inner one: what it stands on is opened there.
        await is_open.wait()

    return [
        Registration(service=SERVICE, add=inner.add_to, warm=warm, close=close),
        Registration(service=JOBS, add=door.add_to, warm=opened, is_public=True),
        identities(records=records, store=deps.store, peers=peers, secret=deps.secret, stop=jobs.withdraw),
    ]
