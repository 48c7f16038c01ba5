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

# await SECONDS COMMAND ...: until it succeeds; 1 if it has not by then. To start a program takes a tenth
# of a second here, and time from those who are waited for: neither this nor the commands do.
await() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        read -rt 0.05 -u "$quiet"
    done
    return 0
}
quiet=/run/quiet.$BASHPID # where nobody writes
mkfifo "$quiet" && exec {quiet}<>"$quiet"

# said_times WORDS FILE: the number of its lines that have them, as `times`.
said_times() {
    local line
    times=0
    while read -r line; do
        [[ $line != *"$1"* ]] || times=$((times + 1))
    done <"$2"
}

listens() { # PORT: somebody does, on TCP
    local port sockets
    printf -v port ':%04X' "$1"
    sockets="$(</proc/net/tcp)$(</proc/net/tcp6)"
    [[ $sockets =~ $port\ 0+:0000\ 0A ]]
}
