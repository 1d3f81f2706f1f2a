"""What a client is made of: its engine, its store, the tasks of its process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from mageflow import current
from mageflow.choosing import engine_for, refuse_names, store_for
from mageflow.config import MageflowConfig
from mageflow.ports.clock import SystemEntropy
from mageflow.ports.store import Store
from mageflow.runtime.kernel import Kernel
from mageflow.runtime.registry import TaskRegistry

if TYPE_CHECKING:
    from mageflow.client import Mageflow

__all__ = ["Wired"]


class Wired:
    """Makes the parts of a client. Apart from the client, so that checkers take its type from its `__new__`."""

    _kernel: Kernel

    def __init__(
        self,
        engine: Any = None,
        store: str | os.PathLike[str] | Store | None = None,
        *,
        config: MageflowConfig | None = None,
        **of_hatchet: Any,
    ) -> None:
        if of_hatchet:
            refuse_names(of_hatchet, engine)
        config = config if config is not None else MageflowConfig()
        self._kernel = Kernel(
            store_for(store, config), engine_for(engine, store), TaskRegistry(), config, SystemEntropy()
        )
        client = cast("Mageflow", self)
        self._kernel.engine.attach(lambda: client.worker(drain=False))
        current.constructed(client)
