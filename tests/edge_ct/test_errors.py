"""Errors: the exit codes of the design's table."""

import inspect

import pytest

from edge_ct import errors
from edge_ct.errors import EdgeCTError, MissingExtra, missing_extra

# Design, section 4. 2 is click's own.
TABLE = {"InputRejected": 3, "ModelRejected": 4, "GateFailed": 5, "MissingExtra": 6, "DataRejected": 7}


def test_exit_codes_are_those_of_the_table() -> None:
    found = {
        name: kind.exit_code
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, EdgeCTError) and kind is not EdgeCTError
    }
    assert found == TABLE
    assert EdgeCTError.exit_code == 1


@pytest.mark.parametrize("name", TABLE)
def test_every_error_is_caught_as_the_base_alone(name: str) -> None:
    kind = getattr(errors, name)
    assert kind.__bases__ == (EdgeCTError,)
    assert not issubclass(kind, (OSError, ValueError))
    assert str(kind("what, where, and what to do")) == "what, where, and what to do"


def test_missing_extra_names_the_package_and_the_command() -> None:
    cause = ModuleNotFoundError("No module named 'pydicom'", name="pydicom")
    with pytest.raises(MissingExtra) as caught:
        missing_extra("dicom", "reading DICOM", cause)
    assert str(caught.value) == "reading DICOM needs pydicom: pip install 'edge-ct[dicom]'"
    assert caught.value.__cause__ is cause


def test_missing_extra_without_a_package_name() -> None:
    with pytest.raises(MissingExtra, match="the demo needs a package: pip install"):
        missing_extra("all", "the demo", ImportError("libGL.so.1: cannot open shared object file"))


def test_tree_in_the_docstring_is_the_tree() -> None:
    for name, code in {"EdgeCTError": 1, **TABLE}.items():
        (line,) = [line for line in (errors.__doc__ or "").splitlines() if name in line]
        assert str(code) in line.split()
