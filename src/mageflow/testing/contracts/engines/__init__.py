"""What every engine must do, as tests to inherit: the same flows, with the same results.

    import pytest
    from mageflow.testing.contracts.engines import EngineContract

    class TestMyEngine(EngineContract):
        @pytest.fixture
        def engine(self) -> MyEngine:
            return MyEngine()

The tests are coroutines: pytest-asyncio in its auto mode runs them, or any plugin that runs coroutines on asyncio. Each
makes its tasks, enters `mage.worker()`, and looks at what came of them. Override `store` for an engine that needs a
server beside it.
"""

from __future__ import annotations

import pytest

# A failing test then shows what it compared.
for _module in ("deliveries", "flows", "steering"):
    pytest.register_assert_rewrite(f"{__name__}.{_module}")

from mageflow.testing.contracts.engines.suite import EngineContract  # noqa: E402

__all__ = ["EngineContract"]
