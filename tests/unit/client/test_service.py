"""The contract on the API server in memory."""

from tests.unit.client.contract import ClientContract


class TestOnTheFake(ClientContract):
    """The fixture `world` is conftest.py's."""
