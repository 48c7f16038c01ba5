# SPDX-License-Identifier: Apache-2.0
# To be sourced inside the guest: nodes, their NICs, and what can go wrong between them.
#
# A node I is
# - RDMA devices rxe_n<I>r<R>, one a rail, over netdevs n<I>r<R> with address 10.0.<R>.<I+1>, all in
#   the first network namespace, where alone rxe works. A rail R is a bridge br<R> with a port
#   pn<I>r<R> for each NIC. Routing by policy sends frames between them over the bridge, though all
#   addresses are of one machine.
# - a network namespace node<I> with eth<R>, address 10.1.<R>.<I+1>, on a bridge tcp<R> with a port
#   pt<I>r<R>: where its processes run (`on I PROGRAM`), and what tcp has.

fabric_mtu=4400 # RDMA packets of 4096 bytes

of_one_machine() { # an interface that takes packets from, and answers for, its own address alone
    local folder=/proc/sys/net/ipv4/conf/$1
    echo 1 >"$folder/accept_local"
    echo 0 >"$folder/rp_filter"
    echo 1 >"$folder/arp_ignore"
    echo 2 >"$folder/arp_announce"
}

table_of() { echo $((100 + $1 * 8 + $2)); }

rdma_routes() { # NODE RAIL: routes that go with the link when it goes down
    local device=n$1r$2 address=10.0.$2.$(($1 + 1)) table
    table=$(table_of "$1" "$2")
    echo "route replace local $address dev $device table $table"
    echo "route replace 10.0.$2.0/24 dev $device src $address table $table"
}

rdma_nic() { # NODE RAIL
    local device=n$1r$2 address=10.0.$2.$(($1 + 1)) table
    table=$(table_of "$1" "$2")
    echo "link add $device mtu $fabric_mtu type veth peer name p$device mtu $fabric_mtu"
    echo "link set p$device master br$2 up"
    echo "addr add $address/24 dev $device"
    echo "link set $device up"
    echo "rule add pref 10 iif $device lookup local"
    echo "rule add pref 20 oif $device lookup $table"
    echo "rule add pref 25 from $address lookup $table"
    rdma_routes "$1" "$2"
}

node_nic() { # NODE RAIL
    echo "link add pt$1r$2 type veth peer name eth$2 netns node$1"
    echo "link set pt$1r$2 master tcp$2 up"
}

node_addresses() { # NODE
    local rail
    echo "link set lo up"
    for ((rail = 0; rail < fabric_rails; rail++)); do
        echo "addr add 10.1.$rail.$(($1 + 1))/24 dev eth$rail"
        echo "link set eth$rail up"
    done
}

switches() { # RAIL
    echo "link add br$1 mtu $fabric_mtu type bridge"
    echo "link set br$1 up"
    echo "link add tcp$1 type bridge"
    echo "link set tcp$1 up"
}

# FUNCTION NODE RAIL for every NIC, rail by rail.
each_nic() {
    local node rail
    for ((rail = 0; rail < fabric_rails; rail++)); do
        for ((node = 0; node < fabric_nodes; node++)); do
            "$1" "$node" "$rail"
        done
    done
}

rdma_device() { echo "link add rxe_n$1r$2 type rxe netdev n$1r$2"; }
nic_of_one_machine() { of_one_machine "n$1r$2"; }

# What is added last: local addresses are looked up after the rules above, and not before.
routing() {
    echo "rule add pref 30 lookup local"
    echo "rule del pref 0"
}

# fabric NODES RAILS
fabric() {
    local node rail
    fabric_nodes=$1 fabric_rails=$2
    of_one_machine all
    of_one_machine default
    echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
    for ((node = 0; node < fabric_nodes; node++)); do
        ip netns add "node$node" || return
    done
    for ((rail = 0; rail < fabric_rails; rail++)); do
        switches $rail
    done | ip -batch - || return
    { each_nic rdma_nic && each_nic node_nic && routing; } | ip -batch - || return
    each_nic nic_of_one_machine
    for ((node = 0; node < fabric_nodes; node++)); do
        node_addresses $node | ip -n node$node -batch - || return
    done
    each_nic rdma_device | rdma -b -
}

# on NODE PROGRAM ...: on that node.
on() {
    local node=$1
    shift
    nsenter --net=/run/netns/node"$node" -- "$@"
}

# Faults, of a node's NIC for RDMA (kind rdma) or for TCP (kind tcp): the node's own link, the port of
# the switch, and what the switch does to packets on their way to the node.
nic_link() { # KIND NODE RAIL up|down
    if [ "$1" = tcp ]; then
        ip -n "node$2" link set "eth$3" "$4"
        return
    fi
    ip link set "n$2r$3" "$4"
    [ "$4" = down ] || rdma_routes "$2" "$3" | ip -batch -
}

port_of() { # KIND NODE RAIL
    if [ "$1" = tcp ]; then echo "pt$2r$3"; else echo "pn$2r$3"; fi
}

nic_port() { # KIND NODE RAIL up|down
    ip link set "$(port_of "$1" "$2" "$3")" "$4"
}

nic_netem() { # KIND NODE RAIL loss 1% ...; nothing more: as it was
    local port
    port=$(port_of "$1" "$2" "$3")
    shift 3
    if [ $# = 0 ]; then tc qdisc del dev "$port" root; else tc qdisc replace dev "$port" root netem "$@"; fi
}

# The node's own link: what it sends is lost, too.
nic_mute() { # KIND NODE RAIL
    local at=(qdisc add dev "n$2r$3")
    [ "$1" = rdma ] || at=(-n "node$2" qdisc add dev "eth$3")
    tc "${at[@]}" root netem loss 100%
}

nic_address() { # KIND NODE RAIL: of Ethernet
    local words=(-br link show "n$2r$3")
    [ "$1" = rdma ] || words=(-n "node$2" -br link show "eth$3")
    ip "${words[@]}" | awk '{ print $3 }'
}

# One way only: the switch drops what comes from the node and is for this other one.
nic_unheard() { # KIND NODE RAIL OTHER
    local port
    port=$(port_of "$1" "$2" "$3")
    tc qdisc add dev "$port" ingress &&
        tc filter add dev "$port" parent ffff: protocol all \
            flower dst_mac "$(nic_address "$1" "$4" "$3")" action drop
}

# What a NIC has sent: its switch's port has received it. So a test can tell that a wire was used.
sent_packets() { # KIND NODE RAIL
    local packets
    read -r packets <"/sys/class/net/$(port_of "$1" "$2" "$3")/statistics/rx_packets"
    echo "$packets"
}

sent_bytes() { # KIND NODE: over all rails
    local rail sum=0 bytes
    for ((rail = 0; rail < fabric_rails; rail++)); do
        read -r bytes <"/sys/class/net/$(port_of "$1" "$2" $rail)/statistics/rx_bytes"
        sum=$((sum + bytes))
    done
    echo $sum
}

# The index in a device's table of the RoCEv2 GID that is its IPv4 address.
gid_index() { # NODE RAIL
    local place gid wanted
    printf -v wanted '0000:0000:0000:0000:0000:ffff:0a00:%02x%02x' "$2" $(($1 + 1))
    for place in {0..15}; do
        read -r gid <"/sys/class/infiniband/rxe_n$1r$2/ports/1/gids/$place" || return
        [ "$gid" != "$wanted" ] || break
    done
    echo "$place"
    [ "$gid" = "$wanted" ]
}

# nic_restore NODE: its links are up, and nothing is lost on them or on the switch any more.
nic_restore() {
    local kind rail port
    for ((rail = 0; rail < fabric_rails; rail++)); do
        for kind in rdma tcp; do
            port=$(port_of $kind "$1" $rail)
            echo "qdisc del dev $port root"
            echo "qdisc del dev $port ingress"
        done
        echo "qdisc del dev n$1r$rail root"
    done | tc -force -batch - 2>/dev/null
    for ((rail = 0; rail < fabric_rails; rail++)); do
        echo "qdisc del dev eth$rail root"
    done | tc -n "node$1" -force -batch - 2>/dev/null
    for ((rail = 0; rail < fabric_rails; rail++)); do
        echo "link set pn$1r$rail up"
        echo "link set pt$1r$rail up"
        echo "link set n$1r$rail up"
        rdma_routes "$1" $rail
    done | ip -batch - || return
    for ((rail = 0; rail < fabric_rails; rail++)); do
        echo "link set eth$rail up"
    done | ip -n "node$1" -batch -
}

# Whose links a transport's messages take; transports as MANTA_TRANSPORTS names them.
wires_of() {
    case $1 in
    *verbs* | *ofi*) echo rdma ;;
    *) echo tcp ;;
    esac
}

# A session string whose address all ranks reach. libfabric's ranks are not in their nodes' network
# namespaces: rdma_cm finds the devices' addresses in the first one only.
session() {
    case $1 in
    *ofi*) build/bin/manta session --host 127.0.0.1 ;;
    *) on 0 build/bin/manta session --host 10.1.0.1 ;;
    esac
}

# with_ranks TRANSPORTS COUNT [options of mantarun]: let `mantarun` be words that start so many ranks,
# RANKS_PER_NODE (1) on each node.
with_ranks() {
    mantarun=(build/bin/mantarun -n "$2" -x MANTA_SESSION="$(session "$1")" -x MANTA_TRANSPORTS="$1" "${@:3}"
        tests/rdma/inside/on)
}
