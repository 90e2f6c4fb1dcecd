"""Optional packages: the module when it is there, the words that install it when it is not."""

from __future__ import annotations

import sys

import pytest

from attnkit._optional import require


def test_a_package_that_is_there_is_returned() -> None:
    import os.path

    assert require("os.path", extra="models") is os.path


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(ImportError, match=r'no-such-package: pip install "attnkit\[models\]"') as refusal:
        require("no_such_package.part", extra="models")
    assert isinstance(refusal.value.__cause__, ModuleNotFoundError)


def test_a_package_that_lacks_something_of_its_own_is_not_called_missing(tmp_path, monkeypatch) -> None:
    (tmp_path / "broken_package.py").write_text("import what_it_needs")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="what_it_needs"):
        require("broken_package", extra="models")
    sys.modules.pop("broken_package", None)


def test_it_is_for_packages_of_others() -> None:
    with pytest.raises(ValueError, match=r"attnkit\.nn.*imported by name"):
        require("attnkit.nn", extra="models")
