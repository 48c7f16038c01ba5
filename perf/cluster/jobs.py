# SPDX-License-Identifier: Apache-2.0
"""Ranks on the nodes of a cluster: Manta's by mantarun, MPI's by its own launcher with a remote shell
that enters a node."""

import dataclasses
import os
import subprocess
import sys
import uuid

import contenders
import network

RSH = os.path.join(network.FOLDER, "rsh")
BIN = os.path.join(contenders.BUILD, "bin")

# Launchers see nodes with CPUs enough, and no library knows that the nodes share them: besides the
# default, try what each has for more ranks than CPUs.
OPEN_MPI = {
    "default": {},
    "yield": {"mpi_yield_when_idle": "1"},
    "han": {"coll_han_priority": "100"},
    "han-yield": {"coll_han_priority": "100", "mpi_yield_when_idle": "1"},
    "adapt": {"coll_adapt_priority": "100"},
}
# UCX tells machines apart by their boot id: it would use shared memory between the nodes.
BETWEEN_NODES = {"UCX_TLS": "tcp,self", "FI_PROVIDER": "tcp"}
HYDRA = {
    "mpich4": {"default": {}, "composed": contenders.COMPOSED},
    "mpich5": {"default": {}, **contenders.CROWDED["mpich5"], "composed": contenders.COMPOSED},
    "intelmpi": {"default": {}, **contenders.CROWDED["intelmpi"]},
}


def session(cluster):
    """A session string whose address all nodes reach."""
    words = (*cluster.on(0), os.path.join(BIN, "manta"), "session", "--host", network.address(0))
    return network.call(*words).strip()


def mantarun(cluster, *options):
    """Words that start a program on all ranks of the cluster."""
    ranks = str(cluster.shape.ranks)
    place = ("-x", f"MANTA_SESSION={session(cluster)}")
    return (os.path.join(BIN, "mantarun"), "-n", ranks, *options, *place, network.ENTER, "rank")


def run(cluster, program, options):
    """The exit code of a program that ran on all ranks, its output passed on."""
    return subprocess.run([*mantarun(cluster, *options), *program], check=False).returncode


@dataclasses.dataclass(frozen=True)
class OnCluster(contenders.Contender):
    """A contender that tells what it sent, too: all its calls, of all sizes and the warm-up. Ranks are
    not bound, so how far the cores are that they happen to be on tells nothing of a run."""

    cluster: object = None

    def run(self, ranks, arguments, seconds):
        before = self.cluster.sent_bytes()
        rows, output, wrong = super().run(ranks, arguments, seconds)
        sent = sum(self.cluster.sent_bytes().values()) - sum(before.values())
        for row in rows:
            row.update({"sent_bytes_of_run": sent, "line_ns": 0, "line_after_ns": 0})
        return rows, output, wrong


def manta(cluster, variables=()):
    def start(_ranks, _bound):
        return [*mantarun(cluster, "--no-prefix")]

    program = os.path.join(BIN, "manta-perf")
    hint = "run make first"
    common = {"variables": variables, "needs": program, "hint": hint, "bind": False}
    return OnCluster("manta", "default", start, (program,), cluster=cluster, **common)


def hosts(cluster, slots=""):
    return ",".join(f"node{node}{slots}" for node in range(cluster.shape.nodes))


def open_mpi(cluster, library):
    found = []
    agent = "plm_rsh_agent" if library == "openmpi4" else "plm_ssh_agent"
    launcher = "mpirun.openmpi"
    if library == "openmpi5":
        launcher = os.path.join(contenders.PEERS, library, "bin", "mpirun")
    for config, settings in OPEN_MPI.items():
        words = [word for key, value in settings.items() for word in ("--mca", key, value)]
        if library == "openmpi5":
            words += ["--prtemca", agent, RSH]
        else:
            words += ["--mca", agent, RSH]

        def start(ranks, _bound, words=words):
            where = ["--host", hosts(cluster, f":{cluster.shape.per_node}"), "-n", str(ranks)]
            binding = ["--bind-to", "none"]
            binding += ["--map-by", "node"] if cluster.shape.round_robin else []
            return [*cluster.on(0), launcher, "--allow-run-as-root", *binding, *words, *where]

        found.append(mpi(cluster, library, config, start, {}))
    return found


def hydra(cluster, library):
    launcher = "mpirun.mpich"
    if library != "mpich4":
        name = "mpiexec.hydra" if library == "intelmpi" else "mpirun"
        launcher = os.path.join(contenders.PEERS, library, "bin", name)

    def start(ranks, _bound):
        each = 1 if cluster.shape.round_robin else cluster.shape.per_node
        where = ["-hosts", hosts(cluster), "-ppn", str(each), "-n", str(ranks)]
        binding = ["-bind-to", "none"]
        if library == "intelmpi":
            binding = ["-genv", "I_MPI_PIN", "0"]
        agent = ["-launcher", "ssh", "-launcher-exec", RSH]
        return [*cluster.on(0), launcher, *agent, *binding, *where]

    return [
        mpi(cluster, library, config, start, {**BETWEEN_NODES, **variables})
        for config, variables in HYDRA[library].items()
    ]


def mpi(cluster, library, config, start, variables):
    plain = contenders.mpi_contender(library, config, start, variables)
    return on_cluster(plain, cluster)


def on_cluster(plain, cluster):
    fields = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}
    return OnCluster(**{**fields, "cluster": cluster, "bind": False})


def gloo(cluster):
    def start(ranks, _bound):
        store = os.path.join(os.environ["TMPDIR"], f"store-{uuid.uuid4().hex}")
        words = [sys.executable, script, "-n", str(ranks), "--store", store]
        return [*mantarun(cluster, "--no-prefix"), *words]

    script = os.path.join(contenders.ROOT, "perf", "peers", "gloo.py")
    plain = contenders.gloo()[0]
    variables = (*plain.variables, ("GLOO_SOCKET_IFNAME", "eth0"))
    return [on_cluster(dataclasses.replace(plain, start=start, variables=variables), cluster)]


def peers(cluster, libraries, configurations):
    """The first configurations of each library, in turn."""
    found = []
    for library in libraries:
        if library.startswith("openmpi"):
            mine = open_mpi(cluster, library)
        else:
            mine = gloo(cluster) if library == "gloo" else hydra(cluster, library)
        found += mine[:configurations]
    return contenders.in_turn(found)
