# SPDX-License-Identifier: Apache-2.0
# The fabric itself, by programs that are not ours: data crosses each wire, and faults stop it.
. tests/rdma/inside/report.sh
. tests/rdma/inside/fabric.sh
port=18515

# pair SENDER RECEIVER RAIL SECONDS PROGRAM OPTION-OF-GID [options]: the receiver is the server.
pair() {
    local from=$1 to=$2 rail=$3 limit=$4 server status
    local words=("$5" "${@:7}" -p $((port += 1)) "$6")
    timeout 40 "${words[@]}" "$(gid_index "$to" "$rail")" -d "rxe_n${to}r$rail" >/run/server 2>&1 &
    server=$!
    await 10 listens $port &&
        timeout "$limit" "${words[@]}" "$(gid_index "$from" "$rail")" -d "rxe_n${from}r$rail" 127.0.0.1
    status=$?
    kill $server 2>/dev/null
    wait $server
    return $status
}

# crosses PACKETS SENDER RECEIVER RAIL PROGRAM ...: it succeeds, and as many packets came to the wire.
crosses() {
    local least=$1 before after
    shift
    before=$(sent_packets rdma "$1" "$3")
    pair "$1" "$2" "$3" 30 "${@:4}" || return
    after=$(sent_packets rdma "$1" "$3")
    echo "packets sent: $((after - before))"
    [ $((after - before)) -ge "$least" ]
}

# Nothing comes through: the program waits, or is told that there is no way to the peer.
stops() { ! pair "$1" "$2" "$3" 4 ibv_rc_pingpong -g -n 100; }

pingpong() { crosses 100 "$1" "$2" "$3" ibv_rc_pingpong -g -n 100; }

check fabric fabric 4 2
for rail in 0 1; do
    for nodes in "0 1" "2 3" "3 0"; do
        check "pingpong of nodes $nodes on rail $rail" pingpong $nodes $rail
    done
done
check "write bandwidth" crosses 3200 0 1 0 ib_write_bw -x -F -s 65536 -n 200
check "write latency" crosses 100 0 1 0 ib_write_lat -x -F -s 8 -n 100
nic_port rdma 1 0 down
check "a port that is down" stops 0 1 0
check "the other rail" pingpong 0 1 1
nic_port rdma 1 0 up
check "the port is up again" await 20 pingpong 0 1 0
nic_netem rdma 1 0 loss 100%
check "a black hole" stops 0 1 0
nic_netem rdma 1 0
nic_link rdma 1 0 down
nic_link rdma 1 0 up
check "a link that was down" await 20 pingpong 0 1 0
nic_netem rdma 1 0 loss 1% corrupt 1% duplicate 1% delay 1ms reorder 5%
check "a wire that loses, changes, doubles and reorders" pingpong 0 1 0
exit $failed
