# SPDX-License-Identifier: Apache-2.0
"""Who may include whom: include -> core -> {topology, gpu, scheduler} -> {transport, plan} ->
collectives -> {tools, perf, bindings, tests}; siblings in braces never include each other."""

import os
import re

import tree

TOP = ["collectives", "plan", "transport", "topology", "gpu", "scheduler", "core"]
MAY_INCLUDE = {
    "core": {"core"},
    "topology": {"topology", "core"},
    "gpu": {"gpu", "core"},
    "scheduler": {"scheduler", "core"},
    "transport": {"transport", "topology", "gpu", "core"},
    "plan": {"plan", "topology", "core"},
    "collectives": set(TOP),
    "tools": {"tools", *TOP},
    "perf": {"perf", *TOP},
    "bindings": {"bindings", *TOP},
    "tests": {"tests", *TOP},
}


def includes(path):
    return re.findall(r'^\s*#\s*include\s+"([^"]+)"', tree.read(path), re.M)


def test_every_folder_is_known():
    folders = {path.split("/")[0] for path in tree.files(".c", ".h")}
    assert folders - {"include"} <= set(MAY_INCLUDE), "a folder without a place in the order"


def test_arrows():
    wrong = []
    for path in tree.files(".c", ".h"):
        folder = path.split("/")[0]
        if folder == "include":
            wrong += [f"{path} includes {name}" for name in includes(path)]
            continue
        for name in includes(path):
            beside = os.path.join(os.path.dirname(path), name)
            target = name.split("/")[0]
            if os.path.exists(os.path.join(tree.ROOT, beside)) and target not in MAY_INCLUDE:
                continue
            if target not in MAY_INCLUDE[folder]:
                wrong.append(f"{path} includes {name}")
    assert not wrong, "\n".join(wrong)


def test_transports_do_not_know_each_other():
    wrong = []
    for path in tree.files(".c", ".h"):
        own = path.split("/")
        if own[0] != "transport" or len(own) < 3:
            continue
        for name in includes(path):
            other = name.split("/")
            if other[0] == "transport" and len(other) > 2 and other[1] != own[1]:
                wrong.append(f"{path} includes {name}")
    assert not wrong, "\n".join(wrong)


def test_algorithms_know_the_verbs_only():
    """An algorithm is a pure function: it includes plan/algorithm.h, its own declaration, and what
    several algorithms have in common, which knows the verbs only, too."""
    verbs = {"plan/algorithm.h"}
    shared = {path for path in tree.files(".h")
              if path.startswith("collectives/") and verbs.issuperset(includes(path))}
    allowed = verbs | shared | {"collectives/algorithms.h"}
    wrong = []
    for path in tree.files(".c"):
        parts = path.split("/")
        if parts[0] == "collectives" and len(parts) > 2:
            wrong += [f"{path} includes {name}" for name in includes(path) if name not in allowed]
    assert not wrong, "\n".join(wrong)
