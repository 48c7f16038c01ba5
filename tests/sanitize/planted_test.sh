#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Each sanitizer of this build must report its planted bug, by name.
set -u

expect() { # bug, words of the report
    local output
    output=$("$BUILD/planted" "$1" 2>&1)
    if [ $? != 0 ] && grep -q "$2" <<<"$output"; then
        echo "ok planted_$1"
    else
        echo "not ok planted_$1: the sanitizer did not say \"$2\""
        echo "$output"
    fi
}

case "$(basename "$BUILD")" in
asan)
    expect heap heap-buffer-overflow
    expect integer "signed integer overflow"
    expect leak "detected memory leaks"
    ;;
tsan)
    expect race "data race"
    ;;
*)
    echo "not ok planted: $BUILD is no build of a sanitizer"
    ;;
esac
