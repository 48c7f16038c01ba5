#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Write what the ABI is, as abidw sees it, into a folder: libmanta.abi, of the exported functions of
# the built library, and transport.abi, of the structs that plugins share with it.
#   tests/abi/dump.sh FOLDER [INCLUDE]     BUILD, CC as for make; INCLUDE: instead of include
set -e
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=$1
include=${2:-$root/include}
object=$(mktemp --suffix=.so)
trap 'rm -f "$object"' EXIT
cd "$root"
"${CC:-gcc}" -std=c11 -g -O0 -fPIC -shared -Wl,-soname,transport -I"$include" tests/abi/surface.c -o "$object"
plain="--no-show-locs --no-comp-dir-path --no-corpus-path --no-parameter-names"
abidw $plain "$object" --out-file "$folder/transport.abi"
abidw $plain --exported-interfaces-only --drop-private-types --headers-dir "$include/manta" \
    "${BUILD:-build}/lib/libmanta.so" --out-file "$folder/libmanta.abi"
