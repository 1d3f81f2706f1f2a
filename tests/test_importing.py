"""Finding the app by its import string; what is wrong is said with what was tried and what was found."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mageflow import Mageflow
from mageflow.errors import ConfigurationError
from mageflow.importing import load_app
from mageflow.serving import serve

APP = """\
from mageflow import Mageflow
mage = Mageflow(store="memory://")
other = Mageflow(store="memory://")
class holder:
    inner = mage
number = 3
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> Iterator[None]:
    """A folder with programs in it; what is imported from it is forgotten again."""
    files = {
        "shop_app.py": APP,
        "empty_app.py": "number = 3\n",
        "broken_app.py": "1 / 0\n",
        "lacking_app.py": "import not_installed_anywhere\n",
        "serving_app.py": "from mageflow.serving import serve\nserve('serving_app:mage')\n",
        "shop_pkg/__init__.py": "",
        "shop_pkg/tasks.py": APP,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    before, places = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = places
    for name in set(sys.modules) - before:
        if name.partition(".")[0].endswith(("_app", "_pkg")):
            del sys.modules[name]


@pytest.mark.parametrize("reference", ["shop_app:mage", "shop_pkg.tasks:mage", "shop_app:holder.inner"])
def test_a_client_is_found_from_the_current_folder(reference: str) -> None:
    assert isinstance(load_app(reference), Mageflow)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("shop_app", ["names a module", "shop_app:mage or shop_app:other"]),
        ("shop_app:", ["names a module", "shop_app:mage"]),
        ("shop_app:mgae", ["shop_app.py", "no 'mgae'", "did you mean 'mage'", "shop_app:mage or shop_app:other"]),
        ("shop_app:number", ["is a int", "no Mageflow client", "shop_app:mage"]),
        ("empty_app:mage", ["no 'mage'", "no Mageflow client is in empty_app"]),
        ("shopp_app:mage", ["no module 'shopp_app'", "did you mean 'shop_app'"]),
        ("nothing_like_it:mage", ["no module 'nothing_like_it'", "the folder has", "shop_pkg"]),
        ("shop_pkg.task:mage", ["no module 'shop_pkg.task'"]),
        ("broken_app:mage", ["ZeroDivisionError", "broken_app.py, line 1"]),
        ("lacking_app:mage", ["imports 'not_installed_anywhere'", "lacking_app.py, line 1"]),
        ("shop_app.py:mage", ["is a path", "shop_app:mage"]),
        ("shop_pkg/tasks.py", ["is a path", "shop_pkg.tasks:NAME"]),
        ("", ["no import string", "package.module:name"]),
        ("shop app:mage", ["no import string"]),
    ],
)
def test_a_wrong_import_string_says_what_would_do(reference: str, words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_app(reference)
    for word in words:
        assert word in str(caught.value)


def test_serving_while_the_app_is_imported_is_refused() -> None:
    """Else each process would start processes."""
    with pytest.raises(ConfigurationError, match="__name__ == '__main__'"):
        load_app("serving_app:mage")


def test_what_every_process_would_refuse_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="in memory, which 2 processes cannot share"):
        serve("shop_app:mage", processes=2)
    with pytest.raises(ConfigurationError, match="processes=0"):
        serve("shop_app:mage", processes=0)
    with pytest.raises(ConfigurationError, match="concurrency=0"):
        serve("shop_app:mage", concurrency=0)
    with pytest.raises(ConfigurationError, match="grace=-1"):
        serve("shop_app:mage", grace=-1)
