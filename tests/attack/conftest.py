"""What the attacks share: the server that runs are forked from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attack.fork_server import ForkServer, fork_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """One for all attacks: it takes seconds to import everything."""
    with fork_server(tmp_path_factory.mktemp("server")) as server:
        yield server
