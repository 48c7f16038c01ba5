# SPDX-License-Identifier: Apache-2.0
"""What one plain TCP stream carries between two nodes: the rate that no library can pass.

    wire.py receive ADDRESS
    wire.py send ADDRESS SECONDS
"""

import socket
import subprocess
import sys
import time

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


def measure(receiver, sender, address, seconds):
    """Bits a second; `receiver` and `sender` are words that run a program on the two nodes."""
    script = [sys.executable, __file__]
    with subprocess.Popen(
        [*receiver, *script, "receive", address], stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        subprocess.run([*sender, *script, "send", address, str(seconds)], check=True)
        return float(process.stdout.readline())


def main():
    if sys.argv[1] == "receive":
        receive(sys.argv[2])
    else:
        send(sys.argv[2], float(sys.argv[3]))


if __name__ == "__main__":
    main()
