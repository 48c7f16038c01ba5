# SPDX-License-Identifier: Apache-2.0
# Two machines and a cable: packets leave a machine. Ranks are started by hand on each, and find each
# other by a session string that a store of keys and values passes on, as Ray does it. Both machines
# run this; the first one tells.
. tests/rdma/inside/report.sh
. tests/rdma/inside/transports.sh
peer=$((3 - GUEST))

# A store: files of a folder that both machines see.
put() {
    cat >"/run/shared/$1.$GUEST" && mv "/run/shared/$1.$GUEST" "/run/shared/$1"
}
get() {
    await 40 test -e "/run/shared/$1" && cat "/run/shared/$1"
}

network() {
    ip addr add 10.0.0.$GUEST/24 dev eth0 && ip link set eth0 mtu 4400 up && rdma link add rxe0 type rxe netdev eth0
}

# tool NAME PROGRAM ...: the server on machine 1, the client on machine 2, who tells how it went.
tool() {
    if [ "$GUEST" = 1 ]; then
        timeout 60 "${@:2}" >/run/server 2>&1 &
        await 20 listens 18515 && echo ready | put "$1.ready"
        wait $! && [ "$(get "$1.code")" = 0 ]
    else
        get "$1.ready" && timeout 40 "${@:2}" 10.0.0.$peer
        echo $? | put "$1.code"
    fi
}

# job NAME TRANSPORTS PROGRAM ...: this machine's rank of a job.
job() {
    export MANTA_RANK=$((GUEST - 1)) MANTA_SIZE=2 MANTA_TRANSPORTS=$2
    [[ $2 != *ofi* ]] || export MANTA_OFI_PROVIDER="verbs;ofi_rxm"
    [ "$GUEST" = 2 ] || build/bin/manta session --host 10.0.0.1 | put "$1.session"
    MANTA_SESSION=$(get "$1.session") timeout 60 "${@:3}"
}

collectives() {
    job "$1" "$2" build/bin/manta-perf --check --iters 3 --warmup 1 --coll all --min 4 --max 256k --factor 256
}

# The cable is pulled in the middle of calls: both are told.
pulled() {
    before=$(sent_bytes)
    job "$1" "$2" build/tests/fault/cluster_rank allreduce 1000000000 -1 >/run/rank 2>&1 &
    get "$1.session" >/run/session
    await 20 busy
    [ "$GUEST" = 1 ] || ip link set eth0 down
    has_ended() { said_times 'ended with' /run/rank && [ $times -gt 0 ]; }
    await 30 has_ended
    kill $!
    cat /run/rank
    grep -q "ended with -.*\(rank $((peer - 1)) is dead: its host is silent\|not delivered\)" /run/rank
}
sent_bytes() { echo "$(</sys/class/net/eth0/statistics/tx_bytes)"; }
busy() { [ $(($(sent_bytes) - before)) -gt 2000000 ]; }

# both NAME COMMAND ...: machine 2 tells only what went wrong, and that by machine 1.
both() {
    if [ "$GUEST" = 1 ]; then
        check "$@"
    else
        check "$@" >/run/told
        grep -q '^ok' /run/told || cat /run/told
    fi
}

network || exit
both "pingpong of two machines" tool pingpong ibv_rc_pingpong -d rxe0 -g 1 -n 200
both "write bandwidth of two machines" tool bandwidth ib_write_bw -d rxe0 -x 1 -F -s 65536 -n 200
for transport in $transports; do
    both "collectives of two machines over $transport" collectives "collectives-$transport" "$transport"
done
for transport in $transports; do
    [[ $transport != *ofi* ]] || continue # its provider tells one of the two, or neither, for long
    both "a cable that is pulled, over $transport" pulled "pulled-$transport" "$transport"
    ip link set eth0 up
done
exit $failed
