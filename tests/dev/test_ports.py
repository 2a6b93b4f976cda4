"""Free ports are different ones, and can be had."""

import socket

from dev.ports import free_ports


def test_free_ports_can_be_listened_on() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
