"""Models of messages as real programs have them, and the way that a message of one goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    computed_field,
)

from mageflow.core.binding import Sent, assemble
from mageflow.models.message import ReturnValue
from mageflow.runtime.shapes import (
    dump_kwargs,
    dump_message,
    message_type,
)


class Item(BaseModel):
    sku: str = Field(validation_alias="s", serialization_alias="stock_keeping_unit")
    count: int = 1


def item(sku: str, count: int = 1) -> Item:
    return Item.model_validate({"s": sku, "count": count})


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(default=9, alias="livesLeft")


class Dog(BaseModel):
    kind: Literal["dog"]


class Order(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    order_id: int
    at: datetime
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    items: list[Item] = []
    first: Item | None = None
    by_place: dict[str, Item] = {}
    id: UUID = Field(default_factory=uuid4, alias="_id")
    parts: list[Order] = []

    @computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> int:
        return len(self.items)


SMALL = {"order_id": 1, "at": "2026-01-02T03:04:05Z", "pet": {"kind": "dog"}}


@dataclass
class Letter:
    to: str
    receipt: Annotated[str, ReturnValue()] | None = None
    copies: list[Item] = field(default_factory=list[Item])


def trip(model: type[BaseModel], message: Any, bound: Mapping[str, Any] | None = None) -> Any:
    """Send a message to a task of `model` and give what the body receives."""
    kind = message_type(model)
    return kind.validate(assemble(Sent(dump_message(message)), [dump_kwargs(bound or {})], kind.shape))
