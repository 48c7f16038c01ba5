# SPDX-License-Identifier: Apache-2.0
"""What manta doctor says where something is missing: each lack is made, and only that is complained of."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from programs import binary, environment, manta, run


def lines(output):
    """(verdict, rest) of each line of the report."""
    return re.findall(r"^(ok|warning|problem) +(\S.*)$", output, re.M)


def without_numbers(line):
    return re.sub(r"[\d.]+", "#", " ".join(line))


@pytest.fixture(scope="module", name="usual")
def what_is_said_without():
    return {without_numbers(line) for line in lines(manta("doctor").stdout) if line[0] != "ok"}


def complaints(result, usual):
    """Those that are not there without the lack; the exit code and the totals fit what is said."""
    said = lines(result.stdout)
    verdicts = [verdict for verdict, _ in said]
    problems, warnings = verdicts.count("problem"), verdicts.count("warning")
    assert result.returncode == (1 if problems else 0)
    counts = ((warnings, "warning"), (problems, "problem"))
    plural = [f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts]
    assert result.stdout.strip().splitlines()[-1] == f"{verdicts.count('ok')} ok, {', '.join(plural)}"
    return [line for line in said if line[0] != "ok" and without_numbers(line) not in usual]


def one(result, usual, verdict, pattern):
    """It is complained of once, so, and nothing else is."""
    found = complaints(result, usual)
    assert len(found) == 1 and found[0][0] == verdict and re.match(pattern, found[0][1]), found


@pytest.mark.parametrize("variable, value", [("SEGMENT", "huge"), ("TIMEOUT", "soon"), ("TIMEOUT", "0"), ("REPRODUCIBLE", "maybe"),
                                             ("SHM_MAX", "1X"), ("SHM_DISTANCE", "afar"), ("SHM_GROUPS", "3"),
                                             ("TCP_SOCKETS", "9"), ("TCP_CONGESTION", "nope")])
def test_a_variable_that_does_not_parse(usual, variable, value):
    one(manta("doctor", **{f"MANTA_{variable}": value}), usual, "problem",
        f"configuration +.*MANTA_{variable}.*{value}")


def test_cache_lines_between_cpus_are_measured():
    """A CPU on which a thread does not come to run within 0.1 s is left out, as may be on a busy host."""
    limit, pattern = time.monotonic() + 60, r"cache lines +from CPU \d+ .*\d+ ns to \d+ (near|far) CPU"
    while True:
        said = [rest for verdict, rest in lines(manta("doctor").stdout) if verdict == "ok"]
        is_right = any(re.match(pattern, rest) for rest in said) == (len(os.sched_getaffinity(0)) > 1)
        if is_right or time.monotonic() > limit:
            break
    assert is_right, said


def test_an_interface_that_is_not_there(usual):
    one(manta("doctor", MANTA_INTERFACE="nope0"), usual, "problem", "configuration +MANTA_INTERFACE is 'nope0', and none ")
    one(manta("doctor", MANTA_INTERFACE="nope0,lo"), usual, "warning", "configuration +MANTA_INTERFACE names 'nope0', and none ")
    assert not complaints(manta("doctor", MANTA_INTERFACE="lo"), usual)


@pytest.mark.parametrize("variable, value", [("TIMEOUT", "99"), ("MTU", "1500"), ("MTU", "4294967295")])
def test_settings_of_verbs_are_looked_at_without_a_card(usual, variable, value):
    one(manta("doctor", **{f"MANTA_VERBS_{variable}": value}), usual, "problem",
        f"RDMA +not used: MANTA_VERBS_{variable} must be ")


def test_transports_that_are_named_and_not_there(usual):
    """What makes every communicator fail is a problem."""
    if os.path.isdir("/sys/class/infiniband") and os.listdir("/sys/class/infiniband"):
        pytest.skip("this host has an RDMA device")
    one(manta("doctor", MANTA_TRANSPORTS="verbs"), usual, "problem",
        "configuration +MANTA_TRANSPORTS is 'verbs', of which none can be used here: ")
    assert not complaints(manta("doctor", MANTA_TRANSPORTS="verbs,tcp"), usual)
    one(manta("doctor", MANTA_VERBS_DEVICE="nope0"), usual, "problem", "RDMA +not used: this host has no RDMA device")


def test_shm_that_comes_late(usual):
    one(manta("doctor", MANTA_TRANSPORTS="tcp,shm"), usual, "warning",
        "configuration +MANTA_TRANSPORTS is 'tcp,shm': tcp comes before shm, so ranks of one node use it ")
    for fine in "shm,tcp", "tcp", "sim,shm", "shm":
        assert not complaints(manta("doctor", MANTA_TRANSPORTS=fine), usual)


def test_doctor_is_right_about_interfaces():
    assert manta("session", MANTA_INTERFACE="nope0").returncode == 1
    assert manta("session", MANTA_INTERFACE="nope0,lo").returncode == 0


def test_too_little_shared_memory(usual):
    one(manta("doctor", MANTA_SHM_MAX="4k"), usual, "warning",
        "MANTA_SHM_MAX +4k is too small for \\d+ ranks .* the default is 256M")


def test_doctor_is_right_about_shared_memory(usual):
    """The smallest size without a complaint is one that ranks share memory with, half of it is not."""
    size = next(1 << k for k in range(12, 30) if not complaints(manta("doctor", MANTA_SHM_MAX=str(1 << k)), usual))
    perf = [binary("manta-perf"), "--coll", "barrier", "--min", "4", "--max", "4", "--iters", "1"]
    ranks = max(2, len(os.sched_getaffinity(0)))
    for given, refused in ((size, False), (size // 2, True)):
        result = run(binary("mantarun"), "-n", ranks, *perf, MANTA_SHM_MAX=str(given))
        assert result.returncode == 0 and ("transport shm is not used" in result.stderr) == refused, result.stderr


def limited(limits, **variables):
    return run("sh", "-c", f"{limits}; exec {binary('manta')} doctor", **variables)


def test_few_open_files(usual):
    one(limited("ulimit -n 128"), usual, "problem", r"open files +128 a process: .*`ulimit -n 4096`")
    one(limited("ulimit -Sn 1000"), usual, "warning", r"open files +1000 a process: ")
    one(limited("ulimit -n 1000"), usual, "warning", r"open files +1000 a process: .* after raising the hard limit")


def test_locked_memory_is_told():
    """Not needed by this version, so no complaint, but told as it is."""
    told = dict((rest.split("  ")[0], rest) for _, rest in lines(limited("ulimit -l 64").stdout))
    assert re.search(r" 64 KiB: .*`ulimit -l unlimited`", told["locked memory"])


def test_few_cpus(usual):
    cpus = os.sched_getaffinity(0)
    if len(cpus) < 2:
        pytest.skip("there is one CPU only")
    result = run("taskset", "-c", min(cpus), binary("manta"), "doctor")
    assert ("warning", f"CPU affinity    1 of {os.sysconf('SC_NPROCESSORS_ONLN')} CPUs") in [
        (verdict, rest.split(":")[0]) for verdict, rest in complaints(result, usual)]


def sandboxed(script, *arguments):
    """doctor in a mount namespace of its own, in which the script has changed what it sees."""
    own = ["--mount"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--mount"]
    if subprocess.run(["unshare", *own, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no mount namespaces")
    script += f"; exec {binary('manta')} doctor"
    return subprocess.run(["unshare", *own, "sh", "-e", "-c", script, "sh", *arguments], capture_output=True, text=True,
                          timeout=60, env=environment(), check=False)


@pytest.mark.parametrize("quota, told", [("50000 100000", "0.50"), ("150000 100000", "1.50")])
def test_cpu_quota(usual, tmp_path, quota, told):
    """A control group's quota, as the kernel tells of it."""
    if len(os.sched_getaffinity(0)) < 2 and told != "0.50":
        pytest.skip("there is one CPU only")
    group = tmp_path / "hierarchy" / "job"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text(quota + "\n")
    (tmp_path / "mountinfo").write_text(f"36 35 0:30 / {group.parent} rw - cgroup2 cgroup2 rw\n")
    (tmp_path / "cgroup").write_text("0::/job\n")
    result = sandboxed("for file in mountinfo cgroup; do mount --bind $1/$file /proc/$$/$file; done", str(tmp_path))
    assert result.stdout, result.stderr
    one(result, usual, "warning", f"CPU quota +{told} CPUs by control group")


@pytest.mark.parametrize("files, pattern", [
    ({"tcp_rmem": "4096 131072 262144"}, r"tcp buffers +what is received .* 256 KiB .*tcp_rmem='4096 131072 4194304'"),
    ({"tcp_wmem": "4096 16384 65536"}, r"tcp buffers +what is sent .* 64 KiB .*tcp_wmem="),
    ({"tcp_congestion_control": "cubic", "tcp_allowed_congestion_control": "cubic renown"},
     r"tcp congestion +cubic.*tcp_allowed_congestion_control"),
])
def test_tcp_that_is_set_up_for_slow_networks(usual, tmp_path, files, pattern):
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    script = "for file in $1/*; do mount --bind $file /proc/sys/net/ipv4/${file##*/}; done"
    one(sandboxed(script, str(tmp_path)), usual, "warning", pattern)


def test_little_memory(usual, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 400000 kB\nMemAvailable:  300000 kB\n")
    result = sandboxed("mount --bind $1/meminfo /proc/meminfo", str(tmp_path))
    assert result.stdout, result.stderr
    one(result, usual, "warning", "memory +293 MiB available, .* 256 MiB .*lower MANTA_SHM_MAX")


FORBID = """
import ctypes, os, struct, sys
number, error, LOAD, EQUAL, RETURN = int(sys.argv[1]), int(sys.argv[2]), 0x20, 0x15, 6
steps = [(LOAD, 0, 0, 0), (EQUAL, 0, 1, number), (RETURN, 0, 0, 0x50000 | error), (RETURN, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
prctl = ctypes.CDLL(None).prctl
assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, program, 0, 0) == 0
os.execv(sys.argv[3], sys.argv[3:])
"""
MEMBARRIER, MEMFD_CREATE, PROCESS_VM_READV, EPERM, ENOSYS = 324, 319, 310, 1, 38


@pytest.mark.parametrize("call, error, verdict, pattern", [
    (MEMBARRIER, ENOSYS, "warning", r"membarrier +the kernel does not offer it \(Function not implemented\)"),
    (MEMFD_CREATE, EPERM, "problem", r"shared memory +memfd_create failed \(Operation not permitted\): .*TCP.*seccomp"),
], ids=["membarrier", "memfd_create"])
def test_forbidden_system_calls(usual, call, error, verdict, pattern):
    """A seccomp filter, as containers have one."""
    subject = pattern.split(" +")[0]
    usual = {line for line in usual if f" {subject} " not in line}
    one(run("python3", "-c", FORBID, call, error, binary("manta"), "doctor"), usual, verdict, pattern)


def test_cross_memory_is_told(usual):
    """Nor is this needed."""
    result = run("python3", "-c", FORBID, PROCESS_VM_READV, EPERM, binary("manta"), "doctor")
    assert not complaints(result, usual)
    told = dict((rest.split("  ")[0], rest) for _, rest in lines(result.stdout))
    assert re.search(r"not allowed \(Operation not permitted\); nothing in this version needs it", told["cross memory"])
    assert "no transport that uses it" in manta("doctor").stdout


def new_session():
    text = manta("session", "--host", "127.0.0.1").stdout.strip()
    return text, text.partition("@")[2]


@contextlib.contextmanager
def waiting_rank(session):
    """Rank 0, which waits for rank 1."""
    with subprocess.Popen([binary("manta-perf")], env=environment(MANTA_RANK="0", MANTA_SIZE="2", MANTA_SESSION=session),
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def visit(*arguments, is_there=lambda result: True, **variables):
    """The result, once whoever was started is there; a busy host may keep an answer for longer than doctor waits."""
    limit = time.monotonic() + 60
    while True:
        result = manta("doctor", *arguments, **variables)
        has_answered = is_there(result) and "says nothing for 2 s" not in result.stdout
        if has_answered or time.monotonic() > limit:
            return result


def is_well(result):
    return result.returncode == 0


def test_reach_rank_0():
    session, address = new_session()
    nobody = manta("doctor", "--session", session)
    assert nobody.returncode == 1
    assert [verdict for verdict, _ in lines(nobody.stdout)] == ["warning", "problem"]
    assert f"{address}: nothing listens there; rank 0 listens from" in nobody.stdout
    with waiting_rank(session) as rank:
        result = visit("--session", is_there=is_well, MANTA_SESSION=session)
        assert re.search(rf"^ok +reach +{address}: .* that knows the session answers within [\d.]+ ms, to 127.0.0.1 \(lo\)",
                         result.stdout, re.M)
        assert session not in result.stdout + result.stderr
        assert re.search(r"^ok +reach .* a listener of libmanta answers", visit("--host", address).stdout, re.M)

        stranger = visit("--session", f"{new_session()[0].partition('@')[0]}@{address}")
        assert stranger.returncode == 1 and "does not know this session" in stranger.stdout

        rank.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, rank.pid, os.WSTOPPED)  # all of its threads
        stopped = manta("doctor", "--host", address)
        assert stopped.returncode == 1 and "says nothing for 2 s: a process that is stopped" in stopped.stdout


def test_visits_do_no_harm_to_rank_0():
    """It goes on waiting for rank 1, and has it when it comes."""
    session, _ = new_session()
    perf = [binary("manta-perf"), "--coll", "barrier", "--min", "4", "--max", "4", "--iters", "1"]
    with subprocess.Popen(perf, env=environment(MANTA_RANK="0", MANTA_SIZE="2", MANTA_SESSION=session),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as rank:
        assert is_well(visit("--session", session, is_there=is_well))
        for _ in range(3):
            assert is_well(visit(f"--session={session}"))
        result = run(*perf, MANTA_RANK="1", MANTA_SIZE="2", MANTA_SESSION=session)
        assert result.returncode == 0, result.stderr
        assert rank.wait(30) == 0, rank.stdout.read()


@pytest.mark.parametrize("says", [b"SSH-2.0-Other\r\n" + b"x" * 100, b""])
def test_something_else_listens(says):
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):  # who has come may be gone
                    connection.recv(1000)
                    connection.sendall(says)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        result = visit("--host", "127.0.0.1:%d" % server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert result.returncode == 1 and "something listens there that is not libmanta" in result.stdout


@pytest.mark.parametrize("arguments, words", [(["--host", "localhost:1"], "numeric address"), (["--host", "127.0.0.1"], "port"),
                                              (["--session", "nonsense"], "manta1:"), (["--session"], "not set"),
                                              (["--session", "x", "--host", "127.0.0.1:1"], "not both"), (["more"], "See manta doctor --help")])
def test_wrong_usage(arguments, words):
    result = manta("doctor", *arguments)
    assert result.returncode == 2 and words in result.stderr and not result.stdout
