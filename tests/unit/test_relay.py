"""Connections that are carried from one place to another."""

import hashlib
import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from helpers.local_aws.workers.relay import READ, Relay

Answer = Callable[[socket.socket], None]
SECONDS = 180


class Carried:
    """A relay in a thread, and the server behind it, which answers as a test says."""

    def __init__(self) -> None:
        self.answer: Answer = lambda connection: None
        self._target = socket.create_server(("127.0.0.1", 0))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self._selector = selectors.DefaultSelector()
        self._end, theirs = socket.socketpair()
        self._selector.register(theirs, READ, None)
        Relay(self._selector, self._listener, self._target.getsockname())
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._carry, self._serve)]
        for thread in self._threads:
            thread.start()

    def _carry(self) -> None:
        while True:
            for key, events in self._selector.select():
                if key.data is None:
                    return
                key.data(events)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._target.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            self.answer(connection)

    def refuse(self) -> None:
        self._target.shutdown(socket.SHUT_RDWR)
        self._target.close()

    def close(self) -> None:
        deadline = time.monotonic() + SECONDS
        while len(self._selector.get_map()) > 2:  # what it accepts from, and what ends it
            assert time.monotonic() < deadline, "the relay holds on to a connection that is over"
            time.sleep(0.01)
        self._end.send(b".")
        self._threads[0].join(SECONDS)
        assert not self._threads[0].is_alive()


@pytest.fixture
def carried() -> Iterator[Carried]:
    relay = Carried()
    yield relay
    relay.close()


def connect(carried: Carried) -> socket.socket:
    return socket.create_connection(carried.address, SECONDS)


def read_all(connection: socket.socket) -> bytes:
    connection.settimeout(SECONDS)
    with connection.makefile("rb") as file:
        return file.read()


def test_half_a_connection_may_end_before_the_other(carried: Carried) -> None:
    carried.answer = lambda connection: connection.sendall(b"seen " + read_all(connection))
    with connect(carried) as client:
        client.sendall(b"all of it")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"seen all of it"


def test_the_server_may_end_its_half_first(carried: Carried) -> None:
    heard: list[bytes] = []
    done = threading.Event()

    def answer(connection: socket.socket) -> None:
        connection.sendall(b"go on")
        connection.shutdown(socket.SHUT_WR)
        heard.append(read_all(connection))
        done.set()

    carried.answer = answer
    with connect(carried) as client:
        assert read_all(client) == b"go on"
        client.sendall(b"later")
    assert done.wait(SECONDS)
    assert heard == [b"later"]


def test_large_bodies_go_both_ways_at_once(carried: Carried) -> None:
    def echo(connection: socket.socket) -> None:
        while data := connection.recv(1 << 16):
            connection.sendall(data)

    carried.answer = echo
    body = os.urandom(1 << 20) * 50
    with connect(carried) as client:

        def send() -> None:
            client.sendall(body)
            client.shutdown(socket.SHUT_WR)

        threading.Thread(target=send, daemon=True).start()
        assert hashlib.sha256(read_all(client)).digest() == hashlib.sha256(body).digest()


def test_a_reader_that_waits_holds_nobody_up(carried: Carried) -> None:
    block = bytes(1 << 20)

    def pour(connection: socket.socket) -> None:
        for _ in range(64 if connection.recv(1) == b"a" else 1):
            connection.sendall(block)

    carried.answer = pour
    with connect(carried) as slow, connect(carried) as quick:
        slow.send(b"a")
        quick.send(b"b")
        assert len(read_all(quick)) == len(block)
        assert len(read_all(slow)) == 64 * len(block)


def test_many_connections_at_once(carried: Carried) -> None:
    carried.answer = lambda connection: connection.sendall(connection.recv(100))
    clients = [connect(carried) for _ in range(200)]
    for number, client in enumerate(clients):
        client.sendall(b"%d" % number)
    assert [read_all(client) for client in clients] == [b"%d" % number for number in range(200)]
    for client in clients:
        client.close()


def test_what_nobody_answers_ends_at_once(carried: Carried) -> None:
    carried.refuse()
    with connect(carried) as client:
        try:
            assert read_all(client) == b""
        except ConnectionResetError:
            return


def test_a_client_that_resets_ends_the_connection_to_the_server(carried: Carried) -> None:
    ended = threading.Event()

    def answer(connection: socket.socket) -> None:
        try:
            while connection.recv(100):
                continue
        except ConnectionResetError:
            pass
        ended.set()

    carried.answer = answer
    client = connect(carried)
    client.sendall(b"x")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()  # a reset, not an end
    assert ended.wait(SECONDS)


def test_an_answer_before_the_end_of_the_request_arrives(carried: Carried) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(10)
        connection.sendall(b"too large")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            continue

    carried.answer = refuse
    with connect(carried) as client:
        client.sendall(bytes(1 << 20))
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"too large"
