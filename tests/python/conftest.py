# SPDX-License-Identifier: Apache-2.0
import signal

import pytest

import manta
from ranks import Ranks

# A shell starts what runs in its background with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def ranks():
    pool = Ranks()
    yield pool
    pool.close()


@pytest.fixture
def alone():
    """A communicator of one rank, for what needs no peer."""
    with manta.Communicator(0, 1, manta.create_session(), timeout=30) as communicator:
        yield communicator
