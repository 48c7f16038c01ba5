# SPDX-License-Identifier: Apache-2.0
"""What one plain TCP stream carries between two nodes: the rate that no library can pass.

    wire.py receive ADDRESS
    wire.py send ADDRESS SECONDS
"""

import contextlib
import socket
import subprocess
import sys
import time

import network

PORT, PIECE_BYTES, WARM_SECONDS = 5000, 1 << 20, 0.3


def receive(address):
    """Print the bits a second from WARM_SECONDS after the first byte to the last."""
    with socket.create_server((address, PORT)) as listener:
        print("ready", flush=True)
        stream, _ = listener.accept()
    piece, count, begin, end = bytearray(PIECE_BYTES), 0, None, None
    first = None
    while received := stream.recv_into(piece):
        end = time.monotonic()
        first = first or end
        if begin is not None:
            count += received
        elif end - first > WARM_SECONDS:
            begin = end
    print(8 * count / (end - begin) if begin and end > begin else 0)


def send(address, seconds):
    piece, end = bytes(PIECE_BYTES), time.monotonic() + seconds
    with socket.create_connection((address, PORT)) as stream:
        while time.monotonic() < end:
            stream.sendall(piece)


def measure(streams, seconds):
    """Bits a second of each stream, all at a time; a stream is (words that run a program on the
    receiver, the same for the sender, the receiver's address)."""
    script = [sys.executable, __file__]
    with contextlib.ExitStack() as stack:

        def start(words):
            process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
            return stack.enter_context(process)

        receivers = [start([*on, *script, "receive", address]) for on, _, address in streams]
        for process in receivers:
            process.stdout.readline()
        for _, on, address in streams:
            start([*on, *script, "send", address, str(seconds)])
        return [float(process.stdout.readline()) for process in receivers]


def of_cluster(cluster, seconds):
    """Bits a second between the first node and the last: there alone; there and back at a time."""
    last = cluster.shape.nodes - 1
    there = cluster.on(last), cluster.on(0), network.address(last)
    back = cluster.on(0), cluster.on(last), network.address(0)
    return measure([there], seconds) + measure([there, back], seconds)


def main():
    if sys.argv[1] == "receive":
        receive(sys.argv[2])
    else:
        send(sys.argv[2], float(sys.argv[3]))


if __name__ == "__main__":
    main()
