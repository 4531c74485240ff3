from inspect import signature
from typing import Any

import pytest

from repurpose import GpRepurposer, LrRepurposer, NeuralNetworkFineTuneRepurposer
from tests.repurpose.examples import CentroidRepurposer, blobs, identity_network


@pytest.mark.parametrize("method", ["repurpose", "fit"])
@pytest.mark.parametrize("cls", [LrRepurposer, GpRepurposer, CentroidRepurposer, NeuralNetworkFineTuneRepurposer])
def test_who_takes_source_data_is_told_by_who_takes_none(cls: Any, method: str) -> None:
    function = getattr(cls(identity_network(), ["0"]), method)
    with pytest.raises(TypeError, match=rf"{cls.__name__}.{method}\(\) got an unexpected .*'source_data'.*CoralRep"):
        function(*blobs(), source_data=blobs())
    assert "source_data" not in signature(function).parameters
