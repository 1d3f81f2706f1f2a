"""What a message is assembled from, where something of it is gone."""

from __future__ import annotations

from msgspec import Raw

from mageflow.core.options import Options
from tests.core.harness import World


def test_an_error_callback_hears_what_was_sent_to_a_run_whose_signature_is_gone() -> None:
    world = World()
    alarm = world.sign("alarm")
    order = world.sign("order", error=[alarm], number=7)
    run = world.start(order, b'{"to": "ada"}', options=Options(delay=5))
    world.remove(order)
    world.turn(5)
    world.claim(run)

    (callback,) = world.callbacks(run)
    offer = world.claim(callback.key).offer

    assert offer is not None
    assert offer.received is not None
    assert offer.received.sent == Raw(b'{"to": "ada"}'), "what was bound is gone with the signature, this is not"
    assert offer.received.layers == ()
