"""The whole contract of a store, and the fixtures that its tests ask for."""

from __future__ import annotations

import pytest

from mageflow.ports.store import Store
from mageflow.testing.clock import ManualClock
from mageflow.testing.contracts.commits import CommitContract
from mageflow.testing.contracts.expiry import ExpiryContract
from mageflow.testing.contracts.listing import ListingContract
from mageflow.testing.contracts.outbox import DeliveryContract, PullContract
from mageflow.testing.contracts.races import LostReplyContract, RaceContract
from mageflow.testing.contracts.rings import RingContract

__all__ = ["StoreContract"]


class StoreContract(
    CommitContract,
    LostReplyContract,
    RaceContract,
    PullContract,
    DeliveryContract,
    ListingContract,
    ExpiryContract,
    RingContract,
):
    """Everything that a store promises; see `mageflow.ports.store`."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The store's time."""
        return ManualClock()

    @pytest.fixture
    def store(self, clock: ManualClock) -> Store:
        """The store that is tested, empty."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture `store`")

    @pytest.fixture
    def other(self, store: Store) -> Store:
        """A second handle on the same store."""
        return store
