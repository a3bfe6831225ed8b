"""Tables of the records. Times are Unix milliseconds, structured values are JSON text, digests are hexadecimal.

Additive changes only: a new column is nullable or has a default, `SCHEMA_VERSION` rises with a migration beside it.
Every row belongs to a tenant, and every statement that serves a caller names the tenant.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

SCHEMA: Final = "masquerade"
SCHEMA_VERSION: Final = 1
METADATA: Final = sa.MetaData(schema=SCHEMA)

versions = sa.Table("versions", METADATA, sa.Column("version", sa.Integer, primary_key=True))

counters = sa.Table(
    "counters",
    METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)

jobs = sa.Table(
    "jobs",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    # Digest of the request as it was made: the same request id with another digest is refused.
    sa.Column("digest", sa.String(64), nullable=False),
    # JSON of the JobSpec as the caller gave it, and as the engine takes it: ids resolved to keys.
    sa.Column("asked", sa.Text, nullable=False),
    sa.Column("spec", sa.Text, nullable=False),
    sa.Column("labels", sa.Text, nullable=False, default="{}"),
    # Number of a state in job.proto; only moves forward within an attempt.
    sa.Column("state", sa.Integer, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    # Lower ones first; within a priority by admission number.
    sa.Column("priority", sa.Integer, nullable=False, default=5),
    sa.Column("number", sa.BigInteger, nullable=False),
    # Handed to the engine, and not yet seen to have ended.
    sa.Column("is_admitted", sa.Boolean, nullable=False, default=False),
    sa.Column("rerender_of", sa.String(40), nullable=False, default=""),
    sa.Column("failure", sa.Text),
    sa.Column("result", sa.Text),
    # Bytes of its objects once it has ended; counted against the tenant's limit.
    sa.Column("stored_bytes", sa.BigInteger, nullable=False, default=0),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("changed_ms", sa.BigInteger, nullable=False),
    sa.Column("ended_ms", sa.BigInteger),
    sa.Column("expires_ms", sa.BigInteger),
    # When its face data, or what an unfinished attempt had left, was erased after its end.
    sa.Column("erased_ms", sa.BigInteger),
    sa.Index("jobs_of_tenant", "tenant", "number"),
    sa.Index("jobs_waiting", "state", "priority", "number"),
    sa.Index("jobs_expiring", "expires_ms"),
    sa.Index("jobs_admitted", "is_admitted"),
)

job_events = sa.Table(
    "job_events",
    METADATA,
    sa.Column("job", sa.String(40), primary_key=True),
    # Place of the job on its way: grows with attempt, state and frames, see orchestrator/progress.py.
    sa.Column("sequence", sa.BigInteger, primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("state", sa.Integer, nullable=False),
    sa.Column("frames_done", sa.BigInteger, nullable=False),
    sa.Column("frames_total", sa.BigInteger, nullable=False),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
)

job_identities = sa.Table(
    "job_identities",
    METADATA,
    sa.Column("job", sa.String(40), primary_key=True),
    sa.Column("identity", sa.String(40), primary_key=True),
    sa.Index("jobs_of_identity", "identity"),
)

job_assets = sa.Table(
    "job_assets",
    METADATA,
    sa.Column("job", sa.String(40), primary_key=True),
    sa.Column("asset", sa.String(40), primary_key=True),
    sa.Index("jobs_of_asset", "asset"),
)

publications = sa.Table(
    "publications",
    METADATA,
    sa.Column("job", sa.String(40), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("place", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("failure", sa.Text),
    sa.Column("done_ms", sa.BigInteger),
)

assets = sa.Table(
    "assets",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    # Last upload or last job that used it.
    sa.Column("used_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("tenant", "key", name="asset_once"),
    sa.Index("assets_of_tenant", "tenant", "number"),
    sa.Index("assets_unused", "used_ms"),
)

uploads = sa.Table(
    "uploads",
    METADATA,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("upload_id", sa.String(200), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    # Bytes that are safe: they lie in the store as parts.
    sa.Column("confirmed_bytes", sa.BigInteger, nullable=False, default=0),
    # Id of the asset that its bytes are found to be, before they are stored as such: finished where that row stands.
    sa.Column("asset", sa.String(40)),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("changed_ms", sa.BigInteger, nullable=False),
)

identities = sa.Table(
    "identities",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("is_drawn", sa.Boolean, nullable=False, default=False),
    # Key and SHA-256 of what Enroll wrote.
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("object_digest", sa.String(64), nullable=False),
    # JSON of the portraits' quality.
    sa.Column("quality", sa.Text, nullable=False),
    sa.Column("consent", sa.String(40), nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("tenant", "request_id", name="identity_once"),
    sa.Index("identities_of_tenant", "tenant", "number"),
)

consents = sa.Table(
    "consents",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    # Id of the identity, or of the job for which portraits were given directly.
    sa.Column("subject", sa.String(40), nullable=False),
    sa.Column("method", sa.String(32), nullable=False),
    sa.Column("statement", sa.Text, nullable=False, default=""),
    sa.Column("attested_by", sa.Text, nullable=False),
    # JSON lists: uses that are covered; keyed digests of the portraits.
    sa.Column("scopes", sa.Text, nullable=False),
    sa.Column("portraits", sa.Text, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("expires_ms", sa.BigInteger),
    sa.Column("revoked_ms", sa.BigInteger),
    sa.Index("consents_of_subject", "tenant", "subject"),
)

keys = sa.Table(
    "keys",
    METADATA,
    # What a key begins with, and lists show; the rest of it is stored as a hash alone.
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("hash", sa.String(128), nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("expires_ms", sa.BigInteger),
    sa.Column("revoked_ms", sa.BigInteger),
)

audit = sa.Table(
    "audit",
    METADATA,
    # 1, 2, 3, ... without a gap.
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("object", sa.Text, nullable=False),
    sa.Column("decision", sa.String(16), nullable=False),
    # Canonical JSON; never holds a face, a name of a person or a path of a user.
    sa.Column("details", sa.Text, nullable=False),
    # Digest of the entry before it, and of this one with that.
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
)
