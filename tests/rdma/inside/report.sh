# SPDX-License-Identifier: Apache-2.0
# To be sourced inside the guest: for each thing tested a line "ok NAME: seconds" or "not ok NAME: why".

# check NAME COMMAND ...: what it printed is shown when it fails.
check() {
    local name=$1 status began=$SECONDS
    shift
    "$@" >/run/said 2>&1
    status=$?
    if [ $status = 0 ]; then
        echo "ok $name: $((SECONDS - began)) s"
    else
        echo "not ok $name: exit code $status after $((SECONDS - began)) s"
        sed 's/^/    /' /run/said
        failed=1
    fi
}
failed=0

# await SECONDS COMMAND ...: until it succeeds; 1 if it has not by then.
await() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.05
    done
}

listens() { # PORT: somebody does, on TCP
    grep -q "$(printf ':%04X 0*:0000 0A' "$1")" /proc/net/tcp /proc/net/tcp6
}
