"""The version that is installed, or a number before all others."""

from importlib import metadata

import pytest
import sklearn

from repurpose.version import library_versions, own_version


@pytest.fixture(autouse=True)
def _asked_anew() -> None:
    own_version.cache_clear()


def test_the_version_is_that_of_the_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repurpose.version.version", {"repurpose-torch": "1.2.3"}.__getitem__)
    assert own_version() == "1.2.3"
    own_version.cache_clear()


def test_without_an_installation_the_version_sorts_before_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("repurpose.version.version", absent)
    assert own_version() == "0+unknown"
    own_version.cache_clear()


def test_libraries_are_those_that_are_imported() -> None:
    found = library_versions()
    assert list(found) == ["python", "torch", "numpy", "scikit-learn", "skops"]
    assert found["scikit-learn"] == sklearn.__version__
    assert found["skops"] == metadata.version("skops")
