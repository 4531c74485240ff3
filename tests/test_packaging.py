"""What is shipped: every package, the marks of typing, light imports, and a README whose commands exist."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import repurpose

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HEAVY = (
    "accelerate",
    "torchvision",
    "gpytorch",
    "pyro",
    "typer",
    "rich",
    "skops",
    "matplotlib",
    "timm",
    "transformers",
    "huggingface_hub",
    "cryptography",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "clarabel",
)


def bash_blocks() -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def test_every_package_directory_is_shipped() -> None:
    found = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for top in ("model_handler", "repurpose")
        for file in (ROOT / top).rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found


def test_every_module_is_in_a_package() -> None:
    for top in ("model_handler", "repurpose"):
        assert [file for file in (ROOT / top).rglob("*.py") if not (file.parent / "__init__.py").exists()] == []


@pytest.mark.parametrize("package", ["model_handler", "repurpose"])
def test_types_are_marked_as_shipped(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"][package]


def test_dependencies_are_ranges_and_never_pins() -> None:
    groups = PROJECT["project"]["optional-dependencies"]
    requirements = [*PROJECT["project"]["dependencies"], *(item for group in groups.values() for item in group)]
    assert [item for item in requirements if not re.fullmatch(r"[\w-]+(\[\w+\])?>=[\d.]+(,<[\d.]+)?", item)] == []


def test_importing_costs_none_of_the_heavy_libraries() -> None:
    code = f"import sys, repurpose.domain, model_handler; print([name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.stdout.strip(), result.returncode) == ("[]", 0), result.stderr


def test_the_readme_begins_with_the_two_commands() -> None:
    first, second, *_ = bash_blocks()
    assert first.splitlines() == ["pip install . && repurpose demo"]
    assert second.splitlines() == ['pip install -e ".[dev]" && pytest -n 2 --dist loadfile']


def test_the_command_of_the_readme_is_installed_by_the_project() -> None:
    module, _, function = PROJECT["project"]["scripts"]["repurpose"].partition(":")
    code = f"from {module} import {function}; {function}()"
    environment = {**os.environ, "COLUMNS": "100"}
    result = subprocess.run(
        [sys.executable, "-c", code, "--help"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert all(command in result.stdout for command in ("demo", "train", "predict", "layers"))


def test_the_newest_version_of_the_changelog_is_the_one_built() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == PROJECT["project"]["version"]


def test_the_library_states_the_version_that_is_installed() -> None:
    try:
        installed = version(PROJECT["project"]["name"])
    except PackageNotFoundError:
        installed = "0+unknown"  # run from the sources, without an installed distribution
    assert repurpose.__version__ == installed
    assert installed in (PROJECT["project"]["version"], "0+unknown")


def test_a_name_that_the_library_does_not_have_is_still_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'repurpose' has no attribute 'LrRepurpose'"):
        _ = repurpose.LrRepurpose
