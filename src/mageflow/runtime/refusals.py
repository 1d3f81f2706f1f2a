"""What callers are told where a signature is not there."""

from __future__ import annotations

from mageflow.core.records import SignatureRecord
from mageflow.core.replies import SignatureReply
from mageflow.errors import SignatureNotFoundError

__all__ = ["found_in", "signature_gone"]


def found_in(reply: SignatureReply, key: str, task: str = "") -> SignatureRecord:
    """Give the signature of a reply.

    Raises:
        SignatureNotFoundError: it, or a callback that it names, does not exist.
    """
    if reply.missing:
        missing = ", ".join(reply.missing)
        raise SignatureNotFoundError(
            f"the callback {missing} of {repr(task) if task else key} does not exist: it was removed or has expired; "
            "sign it again and give the new signature",
            key=reply.missing[0],
        )
    if reply.signature is None:
        raise signature_gone(key)
    return reply.signature


def signature_gone(key: str) -> SignatureNotFoundError:
    """Say that a signature does not exist."""
    return SignatureNotFoundError(
        f"the signature {key} does not exist: it was removed, or has expired after its active_ttl; sign it again",
        key=key,
    )
