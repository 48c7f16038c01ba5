# SPDX-License-Identifier: Apache-2.0
"""manta topo: this host, clusters of a line, JSON and XML, drawings, and what is wrong with them."""

import json
import os
import random
import re
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest

from programs import binary, manta

CLUSTER = "rack:4@100Gbit/s,5us,oversub=2 node:16@200Gbit/s,2us numa:2 core:32 nic:4 gpu:8"


def topo(line, *arguments, **options):
    result = manta("topo", "--topology", line, *arguments, **options)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_this_host():
    result = manta("topo")
    assert result.returncode == 0 and not result.stderr
    assert result.stdout.startswith("node ")
    assert re.search(r"^this process may use \d+ CPU", result.stdout, re.M)
    assert re.search(r"core", result.stdout)


def test_what_this_process_may_use():
    """Bound to one CPU it says so, and still shows all of the host."""
    listed, first = manta("topo", "--json").stdout, str(min(os.sched_getaffinity(0)))
    bound = subprocess.run(["taskset", "-c", first, binary("manta"), "topo"], capture_output=True, text=True, timeout=60, check=True)
    assert "1 in the affinity mask" in bound.stdout
    bound = subprocess.run(["taskset", "-c", first, binary("manta"), "topo", "--json"], capture_output=True, text=True, timeout=60, check=True)
    assert sum_of(json.loads(bound.stdout), "cpus") == sum_of(json.loads(listed), "cpus")
    assert sum_of(json.loads(bound.stdout), "usable") == 1


def sum_of(box, key):
    """Of a box and those in it, each as often as it is there."""
    inside = box.get(key, 0) + sum(sum_of(child, key) for child in box.get("boxes", []))
    return box.get("count", 1) * inside


def test_a_cluster_in_words():
    text = topo(CLUSTER, "--ranks")
    for words in ("4 x rack", "16 x node: 4 NICs, 8 GPUs", "2 x NUMA", "32 x core", "512 ranks", "ring: 0-511",
                  "out of a rack, all ranks together: 8000 Gbit/s", "5 us, and 2 us of a core; 100 Gbit/s for one rank"):
        assert words in text, words
    assert re.search(r"node 63: ranks 504-511", text)


@pytest.mark.parametrize("line, words, not_words", [
    ("node:2 ranks:4", ["4 ranks on each node", "between ranks of one node ", "between nodes of one cluster "], ["core "]),
    ("node:1 ranks:4", ["between ranks of one node "], ["between nodes"]),
    ("node:1 numa:2 ranks:4", ["between ranks of one NUMA ", "between NUMAs of one node "], []),
    ("node:2 ranks:1", ["1 rank on each node", "between nodes of one cluster "], ["between ranks"]),
    ("node:2 core:4 ranks:2", ["2 ranks on each node", "between cores of one node "], ["between ranks"])])
def test_ranks_of_nodes_without_cores_are_tied_too(line, words, not_words):
    text = topo(line)
    assert all(word in text for word in words), text
    assert not any(word in text for word in not_words), text


def test_a_ring_over_scattered_ranks_enters_each_node_once():
    text = topo("rack:2 node:3 core:4 place=roundrobin", "--ranks")
    assert "from node to node 6 times, from rack to rack 2 times" in text


@pytest.mark.parametrize("line", [CLUSTER, "node:1", "zone:2 rack:3 node:2 core:2 place=random:9 size:7",
                                  "node:3@12.5GB/s,oversub=1.5 ranks:5 place=roundrobin",
                                  "rack:2 net=rdma node:2 core:2"])
def test_json_there_and_back(tmp_path, line):
    file = tmp_path / "cluster.json"
    file.write_text(topo(line, "--json"))
    assert topo(file, "--json") == file.read_text()
    assert topo(file, "--ranks") == topo(line, "--ranks")
    assert json.loads(topo(file, "--json", "--ranks"))["ranks"] == json.loads(topo(line, "--json", "--ranks"))["ranks"]


def test_this_host_there_and_back(tmp_path):
    file = tmp_path / "host.json"
    file.write_text(manta("topo", "--json").stdout)
    assert topo(file, "--json") == file.read_text()


def test_ranks_as_json():
    ranks = json.loads(topo("node:2 core:3", "--json", "--ranks"))["ranks"]
    assert ranks["count"] == 6
    assert ranks["groups"]["node"] == [0, 0, 0, 1, 1, 1]
    assert ranks["groups"]["core"] == list(range(6))
    assert ranks["groups"]["cluster"] == [0] * 6


def test_json_with_ranks_can_be_read(tmp_path):
    file = tmp_path / "cluster.json"
    file.write_text(topo("node:2 core:3", "--json", "--ranks"))
    assert topo(file, "--json") == topo("node:2 core:3", "--json")


GPU_HOST = {
    "manta_topology": 1,
    "boxes": [{"level": "node", "name": "a<b>&c", "boxes": [{"level": "core", "count": 4, "cpus": 2}],
               "nics": [{"name": "ib0", "rdma": "mlx5_0", "mbits": 400000, "pci": "0000:02:00.0", "numa": 0,
                         "path": "pci0000:00/0000:00:01.0/0000:02:00.0"},
                        {"name": "eth0", "pci": "0000:05:00.0", "numa": 1, "path": "pci0000:80/0000:05:00.0"}],
               "gpus": [{"vendor": "NVIDIA", "pci": "0000:03:00.0", "numa": 0,
                         "path": "pci0000:00/0000:00:01.0/0000:03:00.0"}]}],
}


def test_devices_and_their_distance(tmp_path):
    file = tmp_path / "gpu.json"
    file.write_text(json.dumps(GPU_HOST))
    text = topo(file)
    assert "NIC ib0, 0000:02:00.0, NUMA 0, 400 Gbit/s, RDMA mlx5_0" in text
    assert "NIC eth0, 0000:05:00.0, NUMA 1, speed not known" in text
    assert "GPU 0, NVIDIA, 0000:03:00.0, NUMA 0; behind one switch with ib0; far from eth0" in text


def draw(tmp_path, *arguments):
    file = tmp_path / "drawing.svg"
    result = manta("topo", *arguments, "--svg", file)
    assert result.returncode == 0, result.stderr
    root = ElementTree.parse(file).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    width, height = (int(number) for number in root.get("viewBox").split()[2:])
    for box in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert int(box.get("x")) + int(box.get("width")) <= width
        assert int(box.get("y")) + int(box.get("height")) <= height
    return width, height, [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]


def test_drawings(tmp_path):
    width, height, texts = draw(tmp_path, "--topology", CLUSTER)
    assert {"4 x rack", "16 x node", "2 x NUMA", "32 x core", "4 NICs, 8 GPUs"} <= set(texts)
    assert width < 1000 and height < 1000, "equal siblings are drawn once"
    assert any(text.startswith("node ") for text in draw(tmp_path)[2])
    file = tmp_path / "gpu.json"
    file.write_text(json.dumps(GPU_HOST))
    texts = draw(tmp_path, "--topology", file)[2]
    assert "node a<b>&c" in texts and "GPU 0 NVIDIA 0000:03:00.0" in texts


def test_a_drawing_that_cannot_be_written():
    result = manta("topo", "--svg", "/nowhere/x.svg")
    assert result.returncode == 1 and "/nowhere/x.svg: No such file" in result.stderr


@pytest.mark.parametrize("options", [[], ["--json"], ["--ranks"]])
def test_ranks_that_do_not_fit(options):
    result = manta("topo", "--topology", "node:2 size:3", *options)
    assert result.returncode == 2 and not result.stdout
    assert result.stderr == "manta topo: 3 ranks do not fit: it has room for 2\n"


@pytest.mark.parametrize("line, words", [("nod:4", 'word 1, "nod:4"'), ("node:4 core", 'word 2, "core"'), ("", "no word"),
                                         ("node:2@fast", '"fast" is no rate'), ("node:2 size:3", "3 ranks do not fit: it has room for 2"),
                                         (__file__, "must end in .json"),
                                         ("missing.json", "missing.json: No such file or directory; manta topo --json"), ("missing.xml", "missing.xml")])
def test_wrong_topologies(line, words):
    result = manta("topo", "--topology", line, "--ranks")
    assert result.returncode in (1, 2) and not result.stdout
    assert words in result.stderr and result.stderr.startswith("manta topo: ")


@pytest.mark.parametrize("arguments", [["--x"], ["--topology"], ["--svg"], ["node:3"]])
def test_wrong_usage(arguments):
    result = manta("topo", *arguments)
    assert result.returncode == 2 and result.stderr.startswith("manta topo: ") and not result.stdout


def changed(key, value, *way):
    """The GPU host with something else in one place."""
    host = json.loads(json.dumps(GPU_HOST))
    at = host
    for step in way:
        at = at[step]
    at[key] = value
    return host


NODE = ("boxes", 0)
WRONG_JSON = [
    ([], "must be an object"),
    (changed("manta_topology", 2), "manta_topology must be 1"),
    (changed("boxs", []), "boxs is no key"),
    (changed("boxes", {}), "boxes must be a list"),
    (changed("level", "shelf", *NODE), "boxes[0].level must be zone"),
    (changed("level", 3, *NODE), "boxes[0].level must be zone"),
    (changed("level", "cluster", *NODE), "boxes[0].level must be zone"),
    (changed("level", "node", *NODE, "boxes", 0), "boxes[0].boxes[0].level must be zone"),
    (changed("level", "core", *NODE), "put it into a node"),
    (changed("count", 0, *NODE), "boxes[0].count must be 1 or more"),
    (changed("count", -1, *NODE), "boxes[0].count must be a whole number"),
    (changed("count", 1.5, *NODE), "boxes[0].count must be a whole number"),
    (changed("count", 2**40, *NODE), "boxes[0].count must be a whole number"),
    (changed("name", "x" * 64, *NODE), "boxes[0].name must be a short text"),
    (changed("name", "\x1b[2J", *NODE), "boxes[0].name must be a short text"),
    (changed("nics", [{"name": 3}], *NODE), "boxes[0].nics[0].name must be a short text"),
    (changed("nics", [{"nam": "x"}], *NODE), "boxes[0].nics[0].nam is no key"),
    (changed("nics", [{}] * 65, *NODE), "boxes[0].nics has more entries"),
    (changed("nics", 1, *NODE, "boxes", 0), "boxes[0].boxes[0].nics goes with nodes only"),
    (changed("gpus", "8", *NODE), "boxes[0].gpus must be a whole number"),
    (changed("links", []), "links must be an object"),
    (changed("links", {"row": {}}), "links.row is no level"),
    (changed("links", {"rack": {"alpha": 1}}), "links.rack.alpha is no key"),
    (changed("links", {"rack": {"alpha_ns": "1"}}), "links.rack.alpha_ns must be a whole number"),
    (changed("uplinks_ps_per_byte", {"row": 1}), "uplinks_ps_per_byte.row is no level"),
    (changed("place", "anywhere"), "place must be packed"),
    (changed("size", 2**30), "size must be a whole number"),
]


@pytest.mark.parametrize("value, words", WRONG_JSON)
def test_wrong_json(tmp_path, value, words):
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps(value))
    result = manta("topo", "--topology", file)
    assert result.returncode == 2 and not result.stdout
    assert words in result.stderr and "wrong.json" in result.stderr


def test_garbled_json_is_refused_or_read(tmp_path):
    """Bytes replaced, cut or doubled: an answer or a sentence, and never a crash."""
    chance = random.Random(7)
    text = json.dumps(GPU_HOST)
    file = tmp_path / "garbled.json"
    for _ in range(150):
        at, end = sorted((chance.randrange(len(text)), chance.randrange(len(text))))
        garbled = chance.choice([text[:at] + chance.choice('{}[]",:0-9e\0') + text[at + 1:], text[:at], text[:at] + text[end:],
                                 text[:end] + text[at:]])
        file.write_text(garbled)
        result = manta("topo", "--topology", file, "--ranks")
        assert result.returncode in (0, 1, 2), (garbled, result.stderr)
        assert result.returncode == 0 or result.stderr.startswith("manta topo: ")


def test_empty_boxes_of_any_number(tmp_path):
    """A million times a million of nothing is answered at once."""
    many = 2**20
    file = tmp_path / "many.json"
    file.write_text(json.dumps({"manta_topology": 1, "boxes": [
        {"level": "zone", "count": many, "boxes": [{"level": "rack", "count": many}]},
        {"level": "node"}]}))
    assert "1 rank\n" in topo(file, "--ranks", timeout=20)


def test_doctor_and_info_know_the_placement():
    assert "MANTA_PLACEMENT" in manta("info", "--config").stdout
    result = manta("info", "--config", MANTA_PLACEMENT="row=3")
    assert result.returncode == 1 and '"row=3" is none of zone=NAME and rack=NAME' in result.stdout


def test_simulate_takes_what_topo_writes(tmp_path):
    file = tmp_path / "cluster.json"
    line = "rack:2@10Gbit/s node:2@25Gbit/s core:2"
    file.write_text(topo(line, "--json"))
    call = ["simulate", "--coll", "allreduce", "--bytes", "64k", "--topology"]
    times = [re.findall(r"[\d.]+ us", manta(*call, what).stdout) for what in (file, line)]
    assert times[0] == times[1] and times[0]
