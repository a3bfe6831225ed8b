"""What Triton's refusals mean. Its status codes do not tell a full queue from a dead server: its texts do."""

from __future__ import annotations

from services.common.errors import (
    DeadlineExceeded,
    MasqueradeError,
    ModelContractMismatch,
    ModelMissing,
    Overloaded,
    RuntimeUnavailable,
)

_FULL = ("exceeds maximum queue size", "request timeout expired")
_REGION_LOST = "unable to find shared memory region"
_UNKNOWN_MODEL = "unknown model"
_RETRY_AFTER_S = 1


def is_full(message: str) -> bool:
    """Whether a queue of the server had no place."""
    return any(words in message.lower() for words in _FULL)


def is_region_lost(message: str) -> bool:
    """Whether the server does not know a region that it was told of: it has been started again since."""
    return _REGION_LOST in message.lower()


def typed_error(code: str, message: str, *, model: str, target: str) -> MasqueradeError:
    """The error of ours that a refusal stands for.

    Args:
        code: name of gRPC's status code; empty where no call was made.
        message: the server's text, or gRPC's where no server answered.
        model: which model was asked.
        target: which server was asked.
    """
    if is_full(message):
        return Overloaded(what=f"the model {model} on Triton", retry_after_s=_RETRY_AFTER_S)
    if code == "DEADLINE_EXCEEDED":
        return DeadlineExceeded(what=f"the model {model} on Triton")
    if code == "NOT_FOUND" and _UNKNOWN_MODEL in message.lower():
        return ModelMissing(
            model=model,
            path=target,
            remedy="put the model's folder into the repository of that Triton server, then restart the server",
        )
    if code == "INVALID_ARGUMENT":
        return ModelContractMismatch(model=model, problem=message)
    return RuntimeUnavailable(runtime="triton", target=target, detail=f"{code or 'no answer'}: {message}")
