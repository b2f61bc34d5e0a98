"""Fixtures of the tests of models."""
import pytest
from recorded_graph import use_recorded_graphs


@pytest.fixture
def recorded_graphs(request, monkeypatch):
    """On the CPU, record operators instead of CUDA graphs; for tests with the fixture ``device``."""
    if 'device' in request.fixturenames and request.getfixturevalue('device') == 'cpu':
        use_recorded_graphs(monkeypatch)
