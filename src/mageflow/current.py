"""Which client the module-level functions use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mageflow.errors import NoClientError
from mageflow.runtime.context import current_client

if TYPE_CHECKING:
    from mageflow.client import Mageflow

__all__ = ["constructed", "get_client", "set_default"]

_chosen: Any = None
_last: Any = None


def constructed(client: Any) -> None:
    """Remember the client that was constructed last."""
    global _last  # noqa: PLW0603 - the one place where the default lives
    _last = client


def set_default(client: Mageflow | None) -> None:
    """Let the module-level functions use `client`; None: the one that was constructed last, as before."""
    global _chosen  # noqa: PLW0603 - the one place where the default lives
    _chosen = client


def get_client() -> Mageflow:
    """Give the client that the module-level functions use.

    It is the one whose worker executes the current body; else the one given to `set_default`; else the one that was
    constructed last.

    Raises:
        NoClientError: there is none.
    """
    client: Mageflow | None = current_client.get() or _chosen or _last
    if client is None:
        raise NoClientError(
            "there is no mageflow client in this process yet; construct one first (mage = Mageflow()), or call the "
            "method of a client instead of the function of the module (mage.sign instead of mageflow.sign)"
        )
    return client
