"""`draw`: pictures of signatures and of runs, as Mermaid, SVG and text."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mageflow import Drawing, Mageflow, RunHandle, Signature, SwarmConfig
from mageflow.drawing.boxes import Arrow, Box, BoxKind
from tests.api.conftest import work

SVG = "{http://www.w3.org/2000/svg}"


# What all pictures hold to


_LABEL = r'"[^"]*"'
_LINES = re.compile(
    rf"""(?:
      (?P<node>n\d+(?:\[{_LABEL}\]|\(\[{_LABEL}\]\)))
    | (?P<open>subgraph\ (?P<name>n\d+)\[{_LABEL}\])
    | (?P<direction>direction\ TB)
    | (?P<end>end)
    | (?P<arrow>n\d+\ (?:-->(?:\|{_LABEL}\|)?|-\.-)\ n\d+)
    | (?P<style>classDef\ \w+\ [\w:#,\- ]+|class\ n\d+(?:,n\d+)*\ \w+)
    )""",
    re.VERBOSE,
)


def check_mermaid(source: str) -> dict[str, set[str]]:
    """Read a flowchart by the part of Mermaid's grammar that is used here; give the nodes inside each node."""
    first, *lines = source.rstrip("\n").split("\n")
    assert first == "flowchart LR"
    around: list[str] = []
    inside: dict[str, set[str]] = {}
    arrows: list[tuple[str, str]] = []
    for line in lines:
        found = _LINES.fullmatch(line.strip(" "))
        assert found is not None, f"no line of a flowchart: {line!r}"
        assert "%%" not in line, "Mermaid takes these for a comment or a directive, wherever they stand"
        if found["node"] or found["open"]:
            name = re.findall(r"n\d+", line)[0]
            assert name not in inside, f"{name} stands there twice"
            inside[name] = set()
            for outer in around:
                inside[outer].add(name)
            if found["open"]:
                around.append(name)
        elif found["end"]:
            around.pop()
        elif found["arrow"]:
            source_, target = re.findall(r"(?<!\w)n\d+", re.sub(_LABEL, "", line))
            arrows.append((source_, target))
    assert not around
    for source_, target in arrows:
        assert source_ in inside
        assert target in inside
        assert source_ not in inside[target], "Mermaid cannot draw from inside a subgraph to that subgraph"
        assert source_ != target or not inside[source_]
    return inside


def check(drawing: Drawing) -> ElementTree.Element:
    """Hold a picture against what is promised of each; give its SVG."""
    boxes = list(drawing.all_boxes())
    assert len({box.id for box in boxes}) == len(boxes) <= 120
    assert set(check_mermaid(str(drawing))) == {box.id for box in boxes}
    image = ElementTree.fromstring(drawing.svg)
    texts = [text.text or "" for text in image.iter(f"{SVG}text")]
    assert all(box.status is None or box.status in texts for box in boxes), "never by colour alone"
    assert "\x1b" not in drawing.text
    called = {arrow.target for arrow in drawing.arrows}
    assert {box.id for box in drawing.boxes[1:]} <= called
    assert Drawing.model_validate_json(drawing.model_dump_json()) == drawing
    return image


def named(drawing: Drawing, title: str) -> list[Box]:
    return [box for box in drawing.all_boxes() if box.title == title]


def arrows(drawing: Drawing) -> set[tuple[str, str, str]]:
    title = {box.id: box.title for box in drawing.all_boxes()}
    return {(title[each.source], each.label, title[each.target]) for each in drawing.arrows}


class Shop:
    """Some tasks."""

    def __init__(self, mage: Mageflow) -> None:
        @mage.task
        async def read(msg: dict[str, Any]) -> dict[str, Any]:
            return {**msg}

        @mage.task
        async def parse(msg: dict[str, Any]) -> dict[str, Any]:
            if msg.get("bad"):
                raise ValueError("no\nsuch luck")
            return {**msg}

        @mage.task
        async def report(msg: dict[str, Any]) -> None:
            return

        @mage.task
        async def alert(msg: dict[str, Any]) -> None:
            return

        self.read, self.parse, self.report, self.alert = read, parse, report, alert


@pytest.fixture
def shop(mage: Mageflow) -> Shop:
    return Shop(mage)


# Signatures


async def test_a_signature_with_its_callbacks_by_how_they_are_called(mage: Mageflow, shop: Shop) -> None:
    told = await mage.sign(shop.alert)
    second = await mage.sign(shop.report, error_callbacks=[told])
    first = await mage.sign(shop.read, success_callbacks=[second], error_callbacks=[told], done_callbacks=[told])
    drawing = await first.draw()
    check(drawing)
    assert arrows(drawing) == {
        ("read", "success", "report"),
        ("read", "error, done", "alert"),
        ("report", "error", "alert"),
    }
    assert len(named(drawing, "alert")) == 1, "what several call is drawn once"
    assert drawing.boxes[0].key == first.key


async def test_a_signature_that_is_its_own_callback(mage: Mageflow, shop: Shop) -> None:
    again = await mage.sign(shop.read)
    await again.success_callbacks.aappend(again)
    drawing = await again.draw()
    check(drawing)
    assert arrows(drawing) == {("read", "success", "read")}
    assert len(drawing.boxes) == 1


async def test_a_step_that_calls_the_chain_around_it_leads_to_its_name(mage: Mageflow, shop: Shop) -> None:
    step = await mage.sign(shop.parse)
    chain = await mage.chain([shop.read, step], "import")
    await step.error_callbacks.aappend(chain)
    drawing = await chain.draw()
    check(drawing)
    assert [box.kind for box in drawing.boxes] == [BoxKind.CHAIN, BoxKind.AGAIN]
    assert drawing.boxes[1].key == chain.key


async def test_a_chain_has_its_steps_in_order_and_a_swarm_its_kinds(mage: Mageflow, shop: Shop) -> None:
    members = [await mage.sign(shop.parse, n=n) for n in range(20)]
    swarm = await mage.swarm(
        [*members, shop.report], "pages", config=SwarmConfig(max_concurrency=7, stop_after_n_failures=3)
    )
    chain = await mage.chain([shop.read, swarm, shop.report], "import", error=shop.alert)
    drawing = await chain.draw()
    check(drawing)
    (root, called) = drawing.boxes
    assert [box.title for box in root.inside] == ["read", "pages", "report"]
    inner = root.inside[1]
    assert inner.kind is BoxKind.SWARM
    assert inner.notes == ["21 members, open", "window of 7", "stops after 3 failures"]
    assert [(box.title, box.times) for box in inner.inside] == [("parse", 20), ("report", 1)]
    assert called.title == "alert"


async def test_members_of_which_it_matters_what_follows_are_different_kinds(mage: Mageflow, shop: Shop) -> None:
    plain, careful = await mage.sign(shop.parse), await mage.sign(shop.parse, error_callbacks=[shop.alert])
    swarm = await mage.swarm([plain, careful, plain])
    assert [(box.title, box.times) for box in (await swarm.draw()).boxes[0].inside] == [("parse", 2), ("parse", 1)]


async def test_a_swarm_of_ten_thousand_is_one_box_with_its_counts(mage: Mageflow, shop: Shop) -> None:
    swarm = await mage.swarm(task=shop.read, inputs=({"n": n} for n in range(10_000)))
    drawing = await swarm.draw()
    check(drawing)
    (box,) = drawing.boxes
    assert box.notes[0] == "10,000 members, closed"
    (kind,) = box.inside
    assert kind.notes == ["all of the first 100"]
    run = await swarm.start()
    drawing = await run.draw()
    check(drawing)
    assert drawing.boxes[0].notes[0] == "10,000 members: 9,970 waiting and 30 running"
    assert len(list(drawing.all_boxes())) < 10


async def test_what_was_left_out_is_said(mage: Mageflow, shop: Shop) -> None:
    callbacks = [await mage.sign(shop.report) for _ in range(30)]
    chain = await mage.chain([shop.read] * 40, "long", success_callbacks=callbacks)
    drawing = await chain.draw()
    check(drawing)
    assert [box.title for box in drawing.boxes[0].inside][-1] == "and 28 more steps"
    assert "and 18 callbacks more" in drawing.boxes[0].notes


async def test_a_line_of_callbacks_without_end_is_cut(mage: Mageflow, shop: Shop) -> None:
    last = await mage.sign(shop.report)
    for _ in range(150):
        last = await mage.sign(shop.report, success_callbacks=[last])
    drawing = await last.draw()
    check(drawing)
    assert drawing.boxes[-1].kind is BoxKind.MORE
    assert drawing.boxes[-1].title == "and 1 callback more"


@pytest.mark.parametrize(
    "named_here", ["end", "subgraph x", 'say "no"', "%%{init: {}}%%", "a\nb --> c", "1. <b>", "日本"]
)
async def test_names_of_all_kinds_stay_names(mage: Mageflow, named_here: str) -> None:
    @mage.task(name=named_here)
    async def body() -> None:
        return

    chain = await mage.chain([body, body], named_here, success=body)
    drawing = await chain.draw()
    image = check(drawing)
    shown = [text.text or "" for text in image.iter(f"{SVG}text")]
    assert any(re.split(r"\s", named_here, maxsplit=1)[0] in text for text in shown)


async def test_a_callback_that_was_removed_is_drawn_as_such(mage: Mageflow, shop: Shop) -> None:
    told = await mage.sign(shop.alert)
    first = await mage.sign(shop.read, error_callbacks=[told])
    assert await mage.remove(told.key)
    drawing = await first.draw()
    check(drawing)
    assert drawing.boxes[1].kind is BoxKind.REMOVED
    assert drawing.boxes[1].key == told.key


# Runs


async def test_a_run_with_the_states_of_its_members_and_callbacks(mage: Mageflow, shop: Shop) -> None:
    chain = await mage.chain(
        [shop.read, shop.parse, shop.report], "import", success=shop.report, error=await mage.sign(shop.alert)
    )
    run = await chain.start({"x": 1})
    drawing = await run.draw()
    check(drawing)
    assert [box.status for box in drawing.boxes[0].inside] == ["queued", "not begun", "not begun"]
    assert drawing.boxes[0].status == "running"
    assert drawing.boxes[0].notes == ["at step 1 of 3"]
    assert [box.status for box in drawing.boxes[1:]] == ["not begun", "not begun"]
    await work(mage)
    drawing = await run.draw()
    check(drawing)
    assert [box.status for box in drawing.boxes[0].inside] == ["succeeded"] * 3
    assert {(box.title, box.status) for box in drawing.boxes[1:]} == {("report", "succeeded"), ("alert", "not called")}
    assert drawing.boxes[1].key == (await run.caused())[0].id or len(await run.caused()) > 1


async def test_a_failed_step_says_why_in_a_line(mage: Mageflow, shop: Shop) -> None:
    parse = await mage.sign(shop.parse, bad=True)
    chain = await mage.chain([shop.read, parse, shop.report], "import", error=shop.alert)
    run = await chain.start({})
    await work(mage)
    drawing = await run.draw()
    check(drawing)
    root = drawing.boxes[0]
    assert root.status == "failed"
    assert root.notes == ["1 of 3 steps succeeded", "ValueError: no"]
    assert [box.status for box in root.inside] == ["succeeded", "failed", "not begun"]
    assert root.inside[1].notes == ["ValueError: no"]


async def test_the_run_of_a_large_swarm_counts_and_shows_those_that_failed(mage: Mageflow, shop: Shop) -> None:
    inputs = [{"bad": n in (3, 17)} for n in range(40)]
    swarm = await mage.swarm(task=shop.parse, inputs=inputs, success_callbacks=[shop.report])
    run = await swarm.start()
    await work(mage)
    drawing = await run.draw()
    check(drawing)
    root, called = drawing.boxes
    assert root.notes[0] == "40 members: 38 succeeded and 2 failed"
    kind, *failed = root.inside
    assert (kind.times, kind.notes) == (40, ["2 failed and 38 succeeded"])
    assert [box.notes for box in failed] == [
        ["member 4 of 40", "ValueError: no"],
        ["member 18 of 40", "ValueError: no"],
    ]
    assert (called.title, called.status) == ("report", "succeeded")


async def test_a_run_whose_signature_is_gone_is_drawn_as_far_as_it_is_known(mage: Mageflow, shop: Shop) -> None:
    chain = await mage.chain([shop.read, shop.parse])
    swarm = await mage.swarm(task=shop.read, inputs=[None] * 20)
    runs = [await chain.start({}), await swarm.start({})]
    for signature in (chain, swarm):
        assert await signature.remove()
    for run in runs:
        drawing = await run.draw()
        check(drawing)
        assert drawing.boxes[0].status == "running"


async def test_a_run_that_is_gone(mage: Mageflow, shop: Shop) -> None:
    run = await (await mage.sign(shop.read)).start({})
    other = Mageflow(store="memory://")
    async with other:
        handle = RunHandle[Any](other._kernel, run._record)  # pyright: ignore[reportPrivateUsage]
        (box,) = (await handle.draw()).boxes
    assert (box.kind, box.key) == (BoxKind.REMOVED, run.id)


async def test_a_run_of_a_task_says_its_attempt(mage: Mageflow) -> None:
    @mage.task(retries=3, backoff_factor=600)
    async def fails() -> None:
        raise ValueError("no")

    run = await (await mage.sign(fails)).start()
    await work(mage)
    (box,) = (await run.draw()).boxes
    assert box.status == "scheduled"
    assert box.notes[0] == "attempt 1 of 4"
    assert box.notes[-1] == "ValueError: no"


# Any tree

_TREES = st.recursive(
    st.sampled_from(["read", "parse", "report"]),
    lambda inner: st.tuples(
        st.sampled_from(["chain", "swarm"]), st.lists(inner, min_size=2, max_size=4), st.booleans(), st.booleans()
    ),
    max_leaves=12,
)


async def plant(mage: Mageflow, shop: Shop, tree: Any) -> Signature[Any, Any]:
    if isinstance(tree, str):
        return await mage.sign(getattr(shop, tree))
    form, members, fails, follows = tree
    signed = [await plant(mage, shop, each) for each in members]
    error = [signed[0]] if fails else []
    success = [await mage.sign(shop.report, success_callbacks=error)] if follows else []
    compose = mage.chain if form == "chain" else mage.swarm
    made: Signature[Any, Any] = await compose(signed, success_callbacks=success, error_callbacks=error)
    if fails:
        await signed[0].done_callbacks.aappend(made)
    return made


@given(tree=_TREES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_tree_is_drawn(tree: Any) -> None:
    async def draw() -> None:
        async with Mageflow(store="memory://") as mage:
            signature = await plant(mage, Shop(mage), tree)
            drawing = await signature.draw()
            check(drawing)
            keys = Counter(box.key for box in drawing.boxes if box.kind is not BoxKind.AGAIN)
            assert set(keys.values()) == {1}, "each callback once"
            run: RunHandle[Any] = await signature.start()
            check(await run.draw())

    asyncio.run(draw())


# How it is shown


async def test_notebooks_and_terminals(mage: Mageflow, shop: Shop) -> None:
    from rich.console import Console

    chain = await mage.chain([shop.read, shop.parse], "import", success=shop.report)
    drawing = await chain.draw()
    shown = drawing._repr_mimebundle_()  # pyright: ignore[reportPrivateUsage]
    assert shown == {
        "image/svg+xml": drawing.svg,
        "text/vnd.mermaid": str(drawing),
        "text/plain": drawing.text,
    }
    assert drawing._repr_svg_() == drawing.svg  # pyright: ignore[reportPrivateUsage]
    console = Console(width=200, force_terminal=False)
    with console.capture() as captured:
        console.print(drawing)
    assert [line.rstrip() for line in captured.get().splitlines()] == drawing.text.splitlines()
    lines = drawing.text.splitlines()
    assert lines[0].startswith("chain import  sig_")
    assert [line.split("sig_")[0].rstrip() for line in lines[1:]] == [
        "│  2 steps",
        "├─ 1. read",
        "├─ 2. parse",
        "└─ on success: report",
    ]


def test_an_empty_picture_is_one_too() -> None:
    check(Drawing())
    check(
        Drawing(
            boxes=[Box(id="n1", kind=BoxKind.TASK, title="")], arrows=[Arrow(source="n1", target="n1", on=["done"])]
        )
    )
