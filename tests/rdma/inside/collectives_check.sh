# SPDX-License-Identifier: Apache-2.0
# What a transport promises, tried over real queue pairs; and all collectives with checking on 2, 3 and
# 4 nodes of two NICs.
. tests/rdma/inside/report.sh
. tests/rdma/inside/fabric.sh
. tests/rdma/inside/transports.sh

# promises NAME [options]: on one node, whose queue pairs then speak to each other.
promises() {
    MANTA_VERBS_DEVICE=rxe_n0r0,rxe_n0r1 FI_VERBS_DEVICE_NAME=rxe_n0r0 MANTA_OFI_DOMAIN=rxe_n0r0 \
        MANTA_OFI_PROVIDER="verbs;ofi_rxm" timeout 100 build/bin/manta plugin check "$@"
}
# Over libfabric all but full, for which an emulated card is too slow there, and those that close an endpoint
# while others send to it: ofi_rxm over verbs crashes now and then (docs/rdma-testing.md).
of_ofi=open,matching,ordering,mismatch,length,epoch,deadline,drain,eager,sleep,errors,counters,registration,random
of_verbs=$of_ofi,abort,close,lost,full

# perf TRANSPORTS NODES RANKS-A-NODE [options]: it is seen that what must cross a wire does.
perf() {
    local wires before after
    wires=$(wires_of "$1")
    before=$(sent_bytes "$wires" 0)
    export RANKS_PER_NODE=$3
    with_ranks "$1" $(($2 * $3)) --timeout 60
    "${mantarun[@]}" build/bin/manta-perf --check --iters 3 --warmup 1 "${@:4}" || return
    after=$(sent_bytes "$wires" 0)
    echo "node 0 has sent $((after - before)) bytes over $wires"
    [ $((after - before)) -gt 100000 ]
}
# What ranks say that they spend, as `name number`: where it is none, and where it is little.
spent() { # PATTERN MOST COUNT WORDS...: so many such numbers, none above that
    with_ranks verbs 2 --timeout 60 --no-prefix
    "${mantarun[@]}" build/tests/e2e/thrift_rank "${@:4}" >/run/spent || return
    cat /run/spent
    awk -v most="$2" -v count="$3" "/$1/"'{ seen++; if ($NF > most) over = 1 } END { exit over || seen != count }' \
        /run/spent
}
# Host memory that is to be flushed by reads, as that of devices is: the cards do it.
flushed() {
    MANTA_VERBS_DEVICE=rxe_n0r0,rxe_n0r1 timeout 60 build/tests/unit/transport/verbs/flush_test
}
# mixed NODES: the last node has no RDMA; all use what both ends have, and say so.
mixed() {
    local last=$(($1 - 1))
    export NODE_WITHOUT_RDMA=$last RANKS_PER_NODE=1
    with_ranks shm,verbs,tcp "$1" --timeout 60 -x MANTA_LOG=info
    "${mantarun[@]}" build/bin/manta-perf --check --iters 3 --warmup 1 --coll allreduce,broadcast "${sizes[@]}" \
        &>/run/mixed
    local status=$?
    unset NODE_WITHOUT_RDMA
    cat /run/mixed
    [ $status = 0 ] &&
        grep -q "manta\[0\].*verbs to $((last - 1)) rank.*, tcp to 1 rank .*; not verbs: rank $last does not offer" \
            /run/mixed &&
        grep -q "manta\[$last\].*: tcp to $last ranks " /run/mixed
}
sizes=(--min 4 --max 256k --factor 256)

fabric 4 2
check "what verbs promises" promises verbs --only $of_verbs
check "what ofi promises" promises ofi --only $of_ofi
check "1 MiB over verbs is not copied, and registered once" spent 'copied|registrations' 0 8 copies 1048576
check "a rank that waits over verbs sleeps" spent "idle_(permille|sleeps)" 150 2 idle 10
check "what cards have written is flushed by their reads" flushed
check "a node without RDMA among others" mixed 3
for transport in $transports; do
    counts="2 3 4"
    [ "$transport" != ofi ] || counts=3
    for nodes in $counts; do
        check "collectives over $transport, $nodes nodes" perf "$transport" "$nodes" 1 --coll all "${sizes[@]}"
    done
    check "collectives over $transport, 2 nodes of 2" perf "$transport" 2 2 --coll all "${sizes[@]}"
    check "long vectors over $transport" perf "$transport" 2 1 --cells allreduce:4M --cells broadcast:4M
done
exit $failed
