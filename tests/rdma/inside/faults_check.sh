# SPDX-License-Identifier: Apache-2.0
# What goes wrong on wires and with ranks in the middle of collectives: all ranks get through, or all
# are told why not; never a hang, never a wrong sum.
. tests/rdma/inside/report.sh
. tests/rdma/inside/fabric.sh
. tests/rdma/inside/transports.sh
nodes=3
endless=1000000000
elements=

under_way() { [ $(($(sent_bytes "$wires" 1) - before)) -gt 1000000 ]; }

all_ended() {
    said_times '] ended with ' /run/job
    [ $times -ge "$1" ] || ! kill -0 $job 2>/dev/null
}

# during COLLECTIVE CALLS ENDINGS FAULT ...: so many calls, the fault in the middle of them, and so
# many ranks that tell how they ended, in /run/job.
during() {
    local status=0 stays=()
    # A card that closes repeats nothing, and is not asked for what was lost on its way back: the last
    # call of who has not heard of it then fails over libfabric, which has no word for having left.
    [[ $transport != *ofi* ]] || stays=(-x STAY=1)
    before=$(sent_bytes "$wires" 1)
    with_ranks "$transport" $nodes --keep-going --timeout 100 -x MANTA_TIMEOUT=100 "${stays[@]}"
    "${mantarun[@]}" build/tests/fault/cluster_rank "$1" "$2" -1 $elements >/run/job 2>&1 &
    job=$!
    await 30 under_way || status="they did not begin"
    "${@:4}" || status="the fault could not be made"
    await 100 all_ended "$3" || status="they did not end"
    kill $job 2>/dev/null
    wait $job 2>/dev/null
    cat /run/job
    [ "$status" = 0 ] || echo "$status"
    [ "$status" = 0 ]
}

# through COLLECTIVE CALLS FAULT ...: all ranks get through with right results.
through() {
    during "$1" "$2" $nodes "${@:3}" || return
    [ "$(grep -c '\] ended with 0: well' /run/job)" = $nodes ]
}

# told COLLECTIVE RANKS WORDS FAULT ...: so many ranks are told in these words.
told() {
    during "$1" $endless "$2" "${@:4}" || return
    [ "$(grep -c "\] ended with -.*$3" /run/job)" = "$2" ]
}

# outlasts COLLECTIVE CALLS FAULT ...: all ranks get through; or all are told, where libfabric's queue
# pairs end first.
outlasts() {
    through "$@" && return
    [[ $transport == *ofi* ]] && [ "$(grep -c '\] ended with -.* was not delivered' /run/job)" = $nodes ]
}

# saying WORDS FUNCTION ...: and the log says what happened.
saying() { "${@:2}" && grep -q "$1" /run/job; }

# over_the_other COLLECTIVE CALLS FAULT ...: of one rail. Over RDMA what was under way goes over the
# other one; tcp cannot take back what it has given to the kernel, and all are told.
over_the_other() {
    if [ "$wires" = rdma ]; then through "$@"; else told "$1" $nodes "was lost" "${@:3}"; fi
}

both() { # FUNCTION NODE ...: on both rails
    "$1" "$wires" "$2" 0 "${@:3}" &&
        "$1" "$wires" "$2" 1 "${@:3}"
}

# With vectors of 16 KiB, not 256.
short() { elements=4096 "$@"; }

# Short messages go over whichever rail came up first: of node 1's that one goes down.
rail_in_use_down() {
    local from rail=0
    from=("$(sent_packets rdma 1 0)" "$(sent_packets rdma 1 1)")
    since() { echo $(($(sent_packets rdma 1 "$1") - from[$1])); }
    some() { [ $(($(since 0) + $(since 1))) -gt 200 ]; }
    await 30 some || echo "nothing goes"
    [ "$(since 1)" -le "$(since 0)" ] || rail=1
    nic_link rdma 1 $rail down
}

# each_wire FUNCTION NODE ...: on all four.
each_wire() {
    local kind rail
    for kind in rdma tcp; do
        for rail in 0 1; do
            "$1" $kind "$2" $rail "${@:3}"
        done
    done
}

# Nothing comes to the node any more, and nothing from it.
black_hole() {
    each_wire nic_netem "$1" loss 100%
    each_wire nic_mute "$1"
}

# The others are told that this rank is dead, and it that one of them is.
told_of_black_hole() {
    told broadcast 3 "is dead: its host is silent" black_hole 1 &&
        [ "$(grep -c "ended with -.*rank 1 is dead" /run/job)" = 2 ]
}

# What the node sends to node 0 is lost, over these kinds of wire; what comes from there arrives.
unheard() { # KINDS NODE
    local kind rail
    for kind in $1; do
        for rail in 0 1; do
            nic_unheard "$kind" "$2" $rail 0
        done
    done
}

# Either of the two may find it out first. All are told of the same silence: nobody's process has ended.
told_of_silence() { # KINDS
    told broadcast 3 "rank [01] is dead: its \(host is silent\|process ended, or it heard nothing\)" \
        unheard "$1" 1
}

down_and_up() {
    both nic_port 1 down
    sleep 1
    both nic_port 1 up
}

kill_rank() { # wherever it is
    local folder
    for folder in $(grep -slzx "MANTA_RANK=$1" /proc/[0-9]*/environ); do
        folder=${folder%/environ}
        [ "$(<"$folder/comm")" != cluster_rank ] || kill -KILL "${folder#/proc/}"
    done
}

# Ranks that lack something: what is said about it tells what to do.
small=(build/bin/manta-perf --check --iters 5 --min 4 --max 256k --factor 256)

# said STATUS WORDS PROGRAM ...: two ranks end with this exit code, and say these words.
said() {
    local status
    with_ranks "$transport" 2 --timeout 60
    "${mantarun[@]}" "${@:3}" >/run/job 2>&1
    status=$?
    cat /run/job
    [ $status = "$1" ] && grep -q "$2" /run/job
}

little_memlock() {
    said 1 "raise the limit of locked memory (ulimit -l unlimited)" \
        prlimit --memlock=65536 setpriv --reuid=65534 --regid=65534 --clear-groups "${small[@]}"
}

# What the user names, and is not there.
no_such() { # VARIABLE VALUE WORDS
    said 1 "$1=$2 cannot be used: .*$3" env "$1=$2" "${small[@]}"
}

# At each end of messages that go one way: the passive one's card tells it nothing, its peer does.
error() {
    MANTA_VERBS_DEVICE=rxe_n0r0,rxe_n0r1 MANTA_VERBS_TIMEOUT=14 MANTA_VERBS_RETRIES=3 \
        timeout 60 build/tests/unit/transport/verbs/error_test >/run/job 2>&1
    local status=$?
    cat /run/job
    return $status
}

# scene NAME FUNCTION ...: and then all is as it was. It is node 1 that things happen to.
scene() {
    [[ $1 =~ ${SCENES:-.} ]] || return
    check "$1 over $transport" "${@:2}"
    nic_restore 1
}

any_transport() {
    scene "loss, corruption, duplication" through allreduce 20 both nic_netem 1 loss 1% corrupt 1% duplicate 1%
    scene "ports down for a second" outlasts allreduce 60 down_and_up
    [[ $transport == *ofi* ]] ||
        scene "a rank is killed" told allreduce 2 "rank 1 is dead: its process ended" kill_rank 1
}

# Not ofi: providers go on for as long as they like with a wire that is dead.
wires_that_are_lost() {
    scene "delay and reordering" through broadcast 20 both nic_netem 1 delay 2ms reorder 20%
    scene "a link down" over_the_other allreduce 60 nic_link "$wires" 1 1 down
    scene "a node in a black hole" told_of_black_hole
    scene "a node is not heard by another" told_of_silence "rdma tcp"
}

# One port against two, from the beginning: the ranks find out which belong together.
one_port() {
    nic_link rdma 1 0 down
    through allreduce 60 true && ! grep -q "go over tcp" /run/job
}

# A network that lets RoCE nowhere through.
no_roce() {
    both nic_netem 1 loss 100%
    said 0 "its messages go over tcp until one does" "${small[@]}"
}

died="rail rxe_n1r.:1 (.*) to rank . (.*) has died: "
verbs_alone() {
    scene "a link down among many calls" saying "$died" short through allreduce 1000 rail_in_use_down
    scene "a port down" saying "$died" through allreduce 60 nic_port rdma 1 0 down
    scene "a rail is a black hole" saying "$died" through allreduce 60 nic_netem rdma 1 0 loss 100%
    scene "both rails down, tcp up" saying "no rail leads to rank 1 .* go over tcp" \
        through allreduce 60 both nic_port 1 down
    scene "cards are not heard" saying "no rail leads to rank 1 .* go over tcp" \
        through allreduce 60 unheard rdma 1
    scene "one port against two" one_port
    scene "a network without RoCE" no_roce
    transport=shm,verbs scene "a node is cut off" \
        told allreduce 3 "no rail joins ranks \(0 and 1\|1 and 2\)" both nic_port 1 down
    scene "a queue pair in error" saying "has died: the peer says that it is dead" error
    scene "little memory that may be locked" little_memlock
    scene "a GID that is not there" no_such MANTA_VERBS_GID 99 "there are 10\\."
    scene "a device that is not there" no_such MANTA_VERBS_DEVICE mlx5_0 "there are rxe_n0r0, "
}

ofi_alone() {
    # In frames alone: where long messages are under way libfabric has to end, and may crash.
    elements=1024 scene "a rank is killed" told allreduce 2 "rank 1 is dead: its process ended" kill_rank 1
    scene "a domain that is not there" no_such MANTA_OFI_DOMAIN mlx5_0 "there are: "
}

fabric $nodes 2
for transport in $transports; do
    wires=$(wires_of "$transport")
    [[ ${GROUPS_OF_SCENES:-any} != *any* ]] || any_transport
    [[ ${GROUPS_OF_SCENES:-wires} != *wires* || $transport == *ofi* ]] || wires_that_are_lost
    [[ ${GROUPS_OF_SCENES:-alone} != *alone* || $transport != *verbs* ]] || verbs_alone
    [[ ${GROUPS_OF_SCENES:-alone} != *alone* || $transport != *ofi* ]] || ofi_alone
done
exit $failed
