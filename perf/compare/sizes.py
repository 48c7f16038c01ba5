# SPDX-License-Identifier: Apache-2.0
"""Sizes as all of Manta's programs take them (core/config.c)."""

import argparse
import re

WORDS = "bytes, or with k, M, G or T of 1024: 4096, 64k, 1MiB"


def parse_size(text):
    found = re.fullmatch(r"([0-9]+)(?:([kKMGT])(?:iB)?)?", text, re.ASCII)
    if not found:
        raise argparse.ArgumentTypeError(f"must be a size ({WORDS}), not '{text}'")
    return int(found[1]) << 10 * " KMGT".index((found[2] or " ").upper())
