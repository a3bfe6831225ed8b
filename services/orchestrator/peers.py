"""What the workflow asks of the other services: one call, by name, in JSON on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from services.orchestrator.engine.port import JsonObject


class Peers(Protocol):
    """The other services."""

    async def ask(self, rpc: str, request: JsonObject) -> JsonObject:
        """Call a peer.

        Args:
            rpc: `service.Method`, as `detector.Link`.
            request: its request message as JSON.

        Returns:
            Its response message as JSON.

        Raises:
            MasqueradeError: whatever the peer raised.
        """


@dataclass(frozen=True, slots=True)
class Environment:
    """What a result depends on beside its inputs and settings: part of keys and reports."""

    software: str
    """Version of this software."""

    runtime: str
    """Where models run and in which precision."""

    models: Mapping[str, str] = field(default_factory=dict)
    """Digest of the weights of each model."""

    encoder: str = ""
    """Build of the encoder's library."""

    machine: str = ""
    """Kind of processor: kernels are chosen by it."""

    profile: str = "starter"
    """What services choose where a job names nothing."""

    policy: str = "commercial"
    """What they may choose from."""

    def to_json(self) -> JsonObject:
        """As JSON."""
        return {
            "software": self.software,
            "runtime": self.runtime,
            "models": dict(sorted(self.models.items())),
            "encoder": self.encoder,
            "machine": self.machine,
            "profile": self.profile,
            "policy": self.policy,
        }
