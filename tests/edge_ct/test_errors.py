"""Errors: the exit codes of the design's table."""

import inspect

import pytest

from edge_ct import errors
from edge_ct.errors import EdgeCTError

# Design, section 4, and the three of the worklist. 2 is click's own.
TABLE = {
    "InputRejected": 3,
    "ModelRejected": 4,
    "GateFailed": 5,
    "MissingExtra": 6,
    "DataRejected": 7,
    "StorageFull": 8,
    "WorklistBusy": 1,
    "WorklistDamaged": 9,
}


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
