"""What every store must do, as tests to inherit.

    import pytest
    from mageflow.testing.clock import ManualClock
    from mageflow.testing.contracts import StoreContract

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self, clock: ManualClock) -> MyStore:
            return MyStore(clock=clock)

The tests are coroutines: pytest-asyncio in its auto mode runs them, or any plugin that runs coroutines on asyncio. The
store must take its time from the `clock` fixture. Where two handles may open one store, override `other` with a second
one, and the races are run between the two.
"""

from __future__ import annotations

import pytest

# A failing test then shows what it compared.
for _module in ("acting", "commits", "expiry", "listing", "outbox", "races", "rings"):
    pytest.register_assert_rewrite(f"{__name__}.{_module}")

from mageflow.testing.contracts.acting import Actor, LosesReplies  # noqa: E402
from mageflow.testing.contracts.suite import StoreContract  # noqa: E402

__all__ = ["Actor", "LosesReplies", "StoreContract"]
