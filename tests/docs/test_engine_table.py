"""The table of docs/engines.md says what the suites have and the engines declare; a run holds the outcomes to it."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("hatchet_sdk", reason="pip install 'mageflow[hatchet]'")

from tests.contract_table import CONTRACTS, ON_A_SERVER, Contract, on_the_page, read, render


def test_it_is_the_one_that_is_made() -> None:
    """Its rows, its columns and what engines declare; `make table` writes it."""
    assert on_the_page() == render(*read(on_the_page()))


def test_each_part_of_a_contract_is_a_column() -> None:
    for contract in CONTRACTS:
        tests = {name for name in dir(contract.suite) if name.startswith("test_")}
        assert tests == {name for part in contract.parts for name in contract.tests_of(part.__name__)}


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.heading)
def test_no_cell_claims_what_the_suites_do_not_have(contract: Contract) -> None:
    cells, last = read(on_the_page())
    for row in contract.rows:
        for part in contract.parts:
            count = len(contract.tests_of(part.__name__))
            if row == ON_A_SERVER:  # as of its last run
                assert re.fullmatch(r"\d+ of \d+", cells[row, part.__name__])
                assert re.search(r"\d{4}-\d\d-\d\d, Hatchet .+, hatchet-sdk [\d.]+", last)
            else:
                assert cells[row, part.__name__] == f"{count} of {count}", f"{row}, {part.__name__}: make table"
