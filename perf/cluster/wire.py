# SPDX-License-Identifier: Apache-2.0
"""What one plain TCP stream carries between two nodes: the rate that no library can pass.

    wire.py receive ADDRESS SECONDS
    wire.py send ADDRESS
"""

import contextlib
import socket
import subprocess
import sys
import time

import network

PORT, PIECE_BYTES, WARM_SECONDS = 5000, 1 << 20, 0.3


def receive(address, seconds):
    """Print the bits a second from WARM_SECONDS to `seconds` after the first byte; longer, if one of
    the two is kept from its CPU meanwhile."""
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
        if count > 0 and end - first > seconds:
            break
    stream.close()
    print(8 * count / (end - begin) if begin and end > begin else 0)


def send(address):
    """Until who receives it has seen enough."""
    piece = bytes(PIECE_BYTES)
    with socket.create_connection((address, PORT)) as stream, contextlib.suppress(OSError):
        while True:
            stream.sendall(piece)


def measure(streams, seconds):
    """Bits a second of each stream, all at a time; a stream is (words that run a program on the
    receiver, the same for the sender, the receiver's address)."""
    script = [sys.executable, __file__]
    with contextlib.ExitStack() as stack:

        def start(words):
            process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
            return stack.enter_context(process)

        receivers = [
            start([*on, *script, "receive", address, str(seconds)]) for on, _, address in streams
        ]
        for process in receivers:
            process.stdout.readline()
        for _, on, address in streams:
            start([*on, *script, "send", address])
        return [float(process.stdout.readline()) for process in receivers]


def of_cluster(cluster, seconds):
    """Bits a second between the first node and the last: there alone; there and back at a time."""
    last = cluster.shape.nodes - 1
    there = cluster.on(last), cluster.on(0), network.address(last)
    back = cluster.on(0), cluster.on(last), network.address(0)
    return measure([there], seconds) + measure([there, back], seconds)


def main():
    if sys.argv[1] == "receive":
        receive(sys.argv[2], float(sys.argv[3]))
    else:
        send(sys.argv[2])


if __name__ == "__main__":
    main()
