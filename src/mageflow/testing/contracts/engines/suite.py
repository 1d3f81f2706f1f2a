"""All of the contract of an engine."""

from __future__ import annotations

from mageflow.testing.contracts.engines.deliveries import TestsOfDeliveries
from mageflow.testing.contracts.engines.flows import TestsOfFlows
from mageflow.testing.contracts.engines.steering import TestsOfSteering

__all__ = ["EngineContract"]


class EngineContract(TestsOfFlows, TestsOfSteering, TestsOfDeliveries):
    """What every engine must do."""
