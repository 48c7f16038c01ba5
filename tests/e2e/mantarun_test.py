# SPDX-License-Identifier: Apache-2.0
"""mantarun: environment, output, input, failures, signals, and that nothing stays behind."""

import errno
import os
import re
import signal
import socket
import subprocess

import pytest

from programs import binary, environment, is_alive, mantarun, run, wait_until


def test_environment():
    result = mantarun("-n", 4, "--nodes", 2, "sh", "-c", "echo $MANTA_RANK $MANTA_SIZE $MANTA_NODE $MANTA_SESSION")
    lines = sorted(result.stdout.splitlines())
    assert result.returncode == 0, result.stderr
    sessions = {line.split()[-1] for line in lines}
    assert [line.split()[:4] for line in lines] == [[f"[{r}]", str(r), "4", f"node{r // 2}"] for r in range(4)]
    assert len(sessions) == 1 and sessions.pop().startswith("manta1:")


def test_every_job_has_its_own_secret():
    one, two = (mantarun("-n", 1, "sh", "-c", "echo $MANTA_SESSION").stdout for _ in range(2))
    assert one.split("@")[0] != two.split("@")[0]


def test_sets_variables():
    result = mantarun("-n", 2, "--no-prefix", "-x", "A=1", "-x", "B=x=y", "sh", "-c", "echo $A $B")
    assert result.stdout == "1 x=y\n" * 2


def test_prefixes_and_completes_lines():
    result = mantarun("-n", 2, "sh", "-c", "printf 'one\\ntwo'; printf 'e' >&2")
    assert sorted(result.stdout.splitlines()) == ["[0] one", "[0] two", "[1] one", "[1] two"]
    assert sorted(result.stderr.splitlines()) == ["[0] e", "[1] e"]


def test_lines_of_ranks_do_not_mix():
    result = mantarun("-n", 4, "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do echo $MANTA_RANK aaaaaaaaaaaaaaaaaaaa; done")
    lines = result.stdout.splitlines()
    assert len(lines) == 36
    assert all(line == f"[{line[1]}] {line[1]} aaaaaaaaaaaaaaaaaaaa" for line in lines)


def test_long_lines_arrive_whole():
    text = "x" * 100_000 + "\n"
    result = mantarun("-n", 1, "cat", stdin=text)
    assert result.stdout == "[0] " + text


def test_input_goes_to_rank_0():
    text = "".join(f"line {i}\n" for i in range(50_000))
    result = mantarun("-n", 3, "--no-prefix", "cat", stdin=text)
    assert result.returncode == 0 and result.stdout == text


def test_exit_code_of_the_first_failure():
    result = mantarun("-n", 3, "sh", "-c", "test $MANTA_RANK = 1 && exit 7; sleep 60")
    assert result.returncode == 7
    assert "rank 1" in result.stderr and "exit code 7" in result.stderr


def test_exit_code_of_a_signal():
    result = mantarun("-n", 2, "sh", "-c", "test $MANTA_RANK = 1 && kill -SEGV $$; sleep 60")
    assert result.returncode == 128 + signal.SIGSEGV
    assert "signal 11" in result.stderr


def test_kills_who_ignores_term_and_its_children(tmp_path):
    """Rank 0 ignores TERM and has a child that does; both are gone when mantarun is."""
    script = ("trap '' TERM; if [ $MANTA_RANK = 0 ]; then sleep 60 & echo $! >> pids; echo $$ >> pids; touch ready; wait;"
              " sleep 60; fi; while [ ! -e ready ]; do sleep 0.01; done; exit 3")
    result = mantarun("-n", 2, "sh", "-c", f"cd {tmp_path}; {script}")
    assert result.returncode == 3
    for pid in (tmp_path / "pids").read_text().split():
        wait_until(lambda pid=pid: not is_alive(pid))


def test_the_others_may_say_why(tmp_path):
    """They are not stopped at once. They have two seconds, which a host that is busy may take from them now and then."""
    script = ("if [ $MANTA_RANK = 0 ]; then echo $$ > pid; mv pid gone; exit 3; fi;"
              " while [ ! -e gone ]; do sleep 0.01; done; read pid < gone;"
              " while ! grep -q '^State:.Z' /proc/$pid/status; do sleep 0.01; done;"
              " sleep 0.2; echo reason >&2; exit 4")
    for _ in range(5):
        result = mantarun("-n", 2, "--no-prefix", "sh", "-c", f"cd {tmp_path}; {script}")
        assert result.returncode == 3 and "rank 0" in result.stderr, result.stderr
        if "reason" in result.stderr:
            return
        (tmp_path / "gone").unlink()
    pytest.fail("nobody said a reason")


def test_keep_going():
    result = mantarun("-n", 2, "--keep-going", "--no-prefix", "sh", "-c",
                      "test $MANTA_RANK = 1 && exit 5; read line; echo done", stdin="go\n")
    assert result.returncode == 5 and result.stdout == "done\n"


def test_timeout():
    result = mantarun("-n", 2, "--timeout", "300ms", "sleep", "60")
    assert result.returncode == 124
    assert re.search(r"rank 0 \(pid \d+\), rank 1 \(pid \d+\)$", result.stderr, re.M)


def test_no_such_program():
    """Rank 0 says so for all, also if it is the last to find out."""
    assert mantarun("-n", 9, "/nonexistent/program").returncode == 127
    result = mantarun("-n", 9, "--keep-going", "/nonexistent/program")
    assert result.returncode == 127 and result.stderr.count("cannot run '/nonexistent/program': No such file") == 1


def test_a_program_that_cannot_be_run(tmp_path):
    """It is there, so the exit code is another one, as a shell has it."""
    result = mantarun("-n", 2, "--keep-going", tmp_path)
    assert result.returncode == 126 and f"cannot run '{tmp_path}': Permission denied" in result.stderr
    script = tmp_path / "script"
    script.write_text("#!/nonexistent/shell\n")
    script.chmod(0o755)
    result = mantarun("-n", 2, "--keep-going", script)
    assert result.returncode == 127 and "No such file or directory: the interpreter that it names" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["true"], ["-n", "0", "true"], ["-n", "x", "true"], ["-n", "2"],
                                       ["-n", "2", "--nodes", "3", "true"], ["-n", "2", "--bind", "hat", "true"],
                                       ["-n", "2", "-x", "A", "true"], ["-n", "2", "--timeout", "x", "true"],
                                       ["-np"], ["-np", "x", "true"], ["-n", "p", "2", "true"], ["-n", "-np", "2", "true"],
                                       ["--wrong"]])
def test_wrong_usage(arguments):
    result = mantarun(*arguments)
    assert result.returncode == 2 and result.stderr and not result.stdout


@pytest.mark.parametrize("option", ["-host", "--host", "-hostfile", "--hostfile", "-H"])
def test_other_hosts_are_not_its_own(option):
    """Which who comes from MPI has to be told."""
    result = mantarun("-n", 2, option, "a,b", "true")
    assert result.returncode == 2 and not result.stdout
    assert "starts ranks on this host only; for others see manta session --help" in result.stderr


@pytest.mark.parametrize("arguments", [["-np", 3], ["-np", "3", "--no-prefix"], ["--np", 3], ["-n3"], ["--ranks=3"]])
def test_ways_to_give_the_ranks(arguments):
    result = mantarun(*arguments, "sh", "-c", "echo of $MANTA_SIZE")
    assert result.returncode == 0 and result.stdout.count("of 3") == 3


def test_help():
    result = mantarun("--help")
    assert result.returncode == 0 and "usage: mantarun" in result.stdout


@pytest.mark.parametrize("tool", ["manta", "mantarun", "manta-perf"])
def test_version(tool):
    for option in ("--version", "-V"):
        result = run(binary(tool), option)
        assert result.returncode == 0 and re.fullmatch(rf"{tool} \d+\.\d+\.\d+\n", result.stdout)


def test_binds_to_one_core_each():
    result = mantarun("-n", 2, "--bind", "core", "--no-prefix", "nproc")
    assert result.stdout == "1\n1\n"


def heed_interrupts():
    """Whoever started the tests in the background may have left SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*arguments):
    return subprocess.Popen([binary("mantarun"), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, env=environment(), preexec_fn=heed_interrupts)


def state(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return re.search(r"^State:\t(.*)", file.read(), re.M)[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_passes_signals_on(number):
    process = start("-n", "2", "--no-prefix", "sh", "-c",
                    "trap 'echo caught; exit 0' INT TERM; echo ready; while :; do sleep 0.05; done")
    assert process.stdout.readline() == "ready\n" and process.stdout.readline() == "ready\n"
    process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    assert output.count("caught") == 2 and process.returncode == 0


def test_ranks_die_with_mantarun():
    process = start("-n", "2", "--no-prefix", "sh", "-c", "echo $$; exec sleep 60")
    pids = [process.stdout.readline().strip() for _ in range(2)]
    process.kill()
    process.wait()
    for pid in pids:
        wait_until(lambda pid=pid: not is_alive(pid))
    process.stdout.close()
    process.stderr.close()


def test_leftovers_are_killed():
    result = mantarun("-n", 1, "--no-prefix", "sh", "-c", "sleep 60 & echo $!")
    assert result.returncode == 0
    wait_until(lambda: not is_alive(result.stdout.strip()))


def test_closed_output_ends_the_job():
    process = start("-n", "2", "yes")
    process.stdout.readline()
    process.stdout.close()
    process.stderr.close()
    assert process.wait(timeout=20) == 128 + signal.SIGPIPE


def test_no_descriptor_leaks_into_ranks():
    """3 is the folder that ls itself has open."""
    result = mantarun("-n", 2, "ls", "/proc/self/fd")
    seen = {rank: [line.split()[1] for line in result.stdout.splitlines() if line.startswith(f"[{rank}]")]
            for rank in (0, 1)}
    assert seen == {0: ["0", "1", "2", "3"], 1: ["0", "1", "2", "3"]}


def test_many_ranks():
    result = mantarun("-n", 200, "--no-prefix", "echo", "here")
    assert result.returncode == 0 and result.stdout == "here\n" * 200


def test_a_rank_that_is_stopped_is_told_early():
    """Long before the deadline, once; and when it goes on, so do all."""
    process = start("-n", "3", "--timeout", "90s", "-x", "MANTA_WARN=200ms", "-x", "MANTA_TRANSPORTS=sim",
                    "-x", "MANTA_FAULT=stop@rank=1:call=5", "sh", "-c",
                    f"echo pid $$ >&2; exec {binary('manta-perf')} --coll allreduce --min 4 --max 4 --check")
    pids, said = {}, ""
    for line in process.stderr:
        if match := re.match(r"\[(\d)\] pid (\d+)$", line):
            pids[match[1]] = int(match[2])
        if "rank 1 does not answer: its process is stopped" in line:
            said = line
            break
    wait_until(lambda: "stopped" in state(pids["1"]), 60)
    os.kill(pids["1"], signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode == 0 and re.match(r"\[(0|2)\] manta\[\1\] warn: waiting in #\d+ ", said), said


def test_the_port_is_held():
    """Before rank 0 listens there, nobody else can take the session's port."""
    process = start("-n", "1", "--no-prefix", "sh", "-c", "echo $MANTA_SESSION; exec sleep 60")
    port = int(process.stdout.readline().strip().rsplit(":", 1)[1])
    with socket.socket() as other, pytest.raises(OSError) as refused:
        other.bind(("127.0.0.1", port))
    assert refused.value.errno == errno.EADDRINUSE
    process.terminate()
    process.communicate(timeout=20)
