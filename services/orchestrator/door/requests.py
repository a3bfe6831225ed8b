"""New jobs from the public door: looked at whole, then accepted or refused, and either is a line in the audit log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from services.common.access.callers import Caller
from services.common.audit.chain import REFUSED, Entry
from services.common.audit.log import write
from services.common.error_table import Exit
from services.common.errors import InvalidSpec, JobStateForbids, MasqueradeError
from services.common.records.database import Records
from services.orchestrator import asking
from services.orchestrator.book.creating import digest_of
from services.orchestrator.book.rows import JobRow
from services.orchestrator.checks import Facts, check, violations
from services.orchestrator.engine.port import JsonObject
from services.orchestrator.jobs import Jobs, JobView
from services.orchestrator.keys import job_id
from services.orchestrator.progress import JobState

_NOT_AUDITED: Final = frozenset({"JOB_NOT_FOUND"})
"""Nothing was refused but a look."""


class Requests:
    """Accepts jobs."""

    def __init__(self, records: Records, jobs: Jobs, facts: Callable[[], Facts]) -> None:
        """Args:
        records: rows of assets and identities.
        jobs: the book.
        facts: what is served here, as it is now.
        """
        self._records, self._jobs, self._facts = records, jobs, facts

    async def create(self, asked: JsonObject, *, caller: Caller, request_id: str) -> JobView:
        """Accept a job, or answer the one that the same request made before.

        Raises:
            MasqueradeError: see `asking.public`, `checks.check` and `Jobs.create`.
        """
        return await self._audited(caller, request_id, lambda: self._accept(asked, caller, request_id, None))

    async def rerender(self, source: str, asked: JsonObject, *, caller: Caller, request_id: str) -> JobView:
        """Accept a job that uses the Timeline of another one.

        Raises:
            JobNotFound: the tenant has no such source.
            JobStateForbids: the source has no Timeline.
            MasqueradeError: as `create`.
        """
        row = (await self._jobs.get(source, tenant=caller.tenant)).row

        async def accept() -> JobView:
            if row.state is not JobState.SUCCEEDED or not (row.result or {}).get("timeline_object"):
                raise JobStateForbids(
                    job=source,
                    state=row.state.name.lower(),
                    what="rendered again",
                    detail="it has no Timeline, because no face was looked for or it did not succeed",
                    remedy="submit the video as a new job",
                )
            return await self._accept(asked, caller, request_id, row)

        return await self._audited(caller, request_id, accept)

    async def _accept(self, asked: JsonObject, caller: Caller, request_id: str, source: JobRow | None) -> JobView:
        digest = digest_of(asked, "" if source is None else source.id)
        known = await self._jobs.known(tenant=caller.tenant, request_id=request_id, digest=digest)
        if known is not None:
            # Also when what it is made of is gone since.
            return known
        tenant, facts = caller.tenant, self._facts()
        try:
            new, spec = await asking.public(self._records, asked, caller=caller, request_id=request_id, source=source)
        except InvalidSpec as error:
            rough = await asking.rough(self._records, asked, caller=caller, source=source)
            named = {each.field for each in error.violations}
            more = [each for each in await violations(rough, tenant=tenant, facts=facts) if each.field not in named]
            raise InvalidSpec(violations=[*error.violations, *more]) from error
        await check(spec, tenant=tenant, facts=facts)
        return await self._jobs.create(new)

    async def _audited(self, caller: Caller, request_id: str, work: Callable[[], Awaitable[JobView]]) -> JobView:
        try:
            return await work()
        except MasqueradeError as error:
            if error.explanation.exit is Exit.REFUSED and error.reason not in _NOT_AUDITED:
                job = job_id(tenant=caller.tenant, request=request_id)
                entry = Entry(caller.tenant, caller.actor, "job.refused", job, REFUSED, {"reason": error.reason})
                await write(self._records, entry)
            raise
