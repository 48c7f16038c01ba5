# SPDX-License-Identifier: Apache-2.0
"""Nodes that are network and host-name namespaces, joined by cables (veth pairs) to a switch (a
bridge) for each rack and interface; racks by an uplink to a switch above. What leaves a node, and
what a switch sends to it, each goes through a bucket of tokens (tbf)."""

import dataclasses
import os
import signal
import subprocess

import sandbox

FOLDER = os.path.dirname(os.path.abspath(__file__))
ENTER = os.path.join(FOLDER, "enter")
# A bucket lets so much pass at once. A node's is as small as its rate allows, so that short messages
# pay for their bytes, too; a switch's is larger, so that a message that has paid once passes, and
# those of several senders wait for each other. A packet as long as a bucket would be cut into those
# of a real wire, headers and all, and much of the rate be lost: packets are a quarter of it.
# What would wait for longer than the queue is dropped.
PACKET_BYTES, PACKET_SECONDS, PACKET_MOST_BYTES, PACKETS = 16 << 10, 50e-6, 64 << 10, 4
SWITCH_BYTES, SWITCH_SECONDS = 128 << 10, 1e-3
QUEUE = "50ms"


@dataclasses.dataclass
class Shape:
    nodes: int = 2
    per_node: int = 1
    round_robin: bool = False  # ranks over nodes, in turn; else node by node
    rate: str | None = None  # as tc writes it: 1gbit
    interfaces: int = 1
    racks: int = 1
    uplink: str | None = None  # of a rack, each direction
    latency: str | None = None  # one way: 100us

    @property
    def ranks(self):
        return self.nodes * self.per_node

    def rack_of(self, node):
        return node * self.racks // self.nodes

    def words(self):
        each = f"{self.per_node} rank{'s' if self.per_node > 1 else ''} each"
        each += " in turn" if self.round_robin else ""
        text = f"{self.nodes} nodes, {each}, {self.rate or 'no limit of rate'}"
        if self.interfaces > 1:
            text += f" on each of {self.interfaces} interfaces"
        if self.racks > 1:
            text += f", {self.racks} racks" + (f" joined by {self.uplink}" if self.uplink else "")
        return text + (f", latency {self.latency}" if self.latency else "")


def bits_of(rate):
    """Bits a second of "1gbit"."""
    units = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9, "bit": 1}
    for unit, factor in units.items():
        if rate.lower().endswith(unit):
            return float(rate[: -len(unit)]) * factor
    raise ValueError(f"a rate is a number of kbit, mbit or gbit, and not '{rate}'")


def address(node, interface=0):
    return f"10.77.{interface}.{node + 1}"


def call(*words):
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise sandbox.Refused(f"{' '.join(words)}: {result.stderr.strip()}")
    return result.stdout


def bucket_of(rate, least_bytes, seconds):
    return max(least_bytes, int(bits_of(rate) / 8 * seconds))


def limit_node(enter, device, rate):
    """Of what a node sends; `enter`: words that run a program there."""
    if not rate:
        return
    bucket = bucket_of(rate, PACKET_BYTES, PACKET_SECONDS)
    packet = min(PACKET_MOST_BYTES, bucket)
    words = ("gso_max_size", str(packet), "gro_max_size", str(packet))
    call(*enter, "ip", "link", "set", device, *words)
    limit(enter, device, rate, max(bucket, PACKETS * packet))


def limit_switch(device, rate, latency=None):
    """Of what a switch sends by a port of its own."""
    parent = ("root",)
    if rate:
        limit((), device, rate, bucket_of(rate, SWITCH_BYTES, SWITCH_SECONDS))
        parent = ("parent", "1:1")
    if latency:
        delay = ("netem", "delay", latency, "limit", "100000")
        call("tc", "qdisc", "add", "dev", device, *parent, "handle", "2:", *delay)


def limit(enter, device, rate, burst):
    tokens = ("tbf", "rate", rate, "burst", str(burst), "latency", QUEUE)
    call(*enter, "tc", "qdisc", "add", "dev", device, "root", "handle", "1:", *tokens)


def without_ipv6():
    """Its neighbour discovery would be counted with the ranks' bytes."""
    path = "/proc/sys/net/ipv6/conf/default/disable_ipv6"
    if os.path.exists(path):
        sandbox.write(path, "1")


def hold(node):
    """A process that is the node: its namespaces last as long as it does."""
    ready, done = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            sandbox.unshare(sandbox.CLONE_NEWNET | sandbox.CLONE_NEWUTS, "a node cannot be made")
            name = f"node{node}".encode()
            sandbox.check(sandbox.LIBC.sethostname(name, len(name)), "a node cannot be named")
            without_ipv6()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.write(done, b"1")
            while True:
                signal.pause()
        finally:
            os._exit(1)
    os.close(done)
    made = os.read(ready, 1)
    os.close(ready)
    if not made:
        raise sandbox.Refused("a node's namespaces cannot be made; run as root")
    return pid


class Cluster:
    """Made in a sandbox, and gone with it."""

    def __init__(self, shape):
        self.shape = shape
        without_ipv6()
        call("ip", "link", "set", "lo", "up")
        self.pids = [hold(node) for node in range(shape.nodes)]
        os.environ["PERF_CLUSTER_NODES"] = " ".join(map(str, self.pids))
        os.environ["PERF_CLUSTER_PER_NODE"] = str(0 if shape.round_robin else shape.per_node)
        racks = [shape.rack_of(node) for node in range(shape.nodes)] if shape.racks > 1 else []
        os.environ["PERF_CLUSTER_RACKS"] = " ".join(map(str, racks))
        for interface in range(shape.interfaces):
            self.lay_switches(interface)
            for node in range(shape.nodes):
                self.lay_cable(node, interface)
        for node in range(shape.nodes):
            call(*self.on(node), "ip", "link", "set", "lo", "up")
        self.name_nodes()

    def on(self, node):
        """Words that run a program on a node."""
        return (ENTER, str(node))

    def lay_switches(self, interface):
        for rack in range(self.shape.racks):
            call("ip", "link", "add", f"rack{rack}i{interface}", "type", "bridge")
            call("ip", "link", "set", f"rack{rack}i{interface}", "up")
        if self.shape.racks == 1:
            return
        call("ip", "link", "add", f"core{interface}", "type", "bridge")
        call("ip", "link", "set", f"core{interface}", "up")
        for rack in range(self.shape.racks):
            up, down = f"up{rack}i{interface}", f"down{rack}i{interface}"
            call("ip", "link", "add", up, "type", "veth", "peer", "name", down)
            for device, switch in ((up, f"rack{rack}i{interface}"), (down, f"core{interface}")):
                call("ip", "link", "set", device, "master", switch, "up")
                limit_switch(device, self.shape.uplink)

    def lay_cable(self, node, interface):
        port, device = f"port{node}i{interface}", f"eth{interface}"
        switch = f"rack{self.shape.rack_of(node)}i{interface}"
        peer = ("peer", "name", device, "netns", str(self.pids[node]))
        call("ip", "link", "add", port, "type", "veth", *peer)
        call("ip", "link", "set", port, "master", switch, "up")
        place = f"{address(node, interface)}/24"
        call(*self.on(node), "ip", "address", "add", place, "dev", device)
        call(*self.on(node), "ip", "link", "set", device, "up")
        limit_switch(port, self.shape.rate, self.shape.latency)
        limit_node(self.on(node), device, self.shape.rate)

    def name_nodes(self):
        lines = ["127.0.0.1 localhost"]
        lines += [f"{address(node)} node{node}" for node in range(self.shape.nodes)]
        path = os.path.join(os.environ["TMPDIR"], "hosts")
        sandbox.write(path, "\n".join(lines) + "\n")
        sandbox.mount(path, "/etc/hosts", None, sandbox.MS_BIND)

    def sent_bytes(self):
        """{(node, device): bytes that have left it}"""
        found = {}
        for node, pid in enumerate(self.pids):
            with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
                for line in file:
                    name, colon, numbers = line.strip().partition(":")
                    if colon and name.startswith("eth"):
                        found[node, name] = int(numbers.split()[8])
        return found
