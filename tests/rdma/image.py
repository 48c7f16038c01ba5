# SPDX-License-Identifier: Apache-2.0
"""A Debian kernel and an initial file system that boots it, from packages that are downloaded and
unpacked, never installed. Kept under build/rdma and made again when what they are made of changes.
"""

import hashlib
import lzma
import os
import shutil
import struct
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
FOLDER = os.path.join(os.environ.get("BUILD") or os.path.join(ROOT, "build"), "rdma")

# What the guest loads, with all that these need, in this order. Not every kernel has every one.
MODULES = """
    virtio_pci virtio_console virtio_net 9pnet_virtio 9p overlay crc32_generic crc32_pclmul
    veth bridge ib_uverbs rdma_ucm rdma_rxe
    sch_netem sch_tbf sch_prio sch_ingress cls_u32 cls_flower cls_matchall act_gact act_mirred ifb
    nf_tables nft_compat xt_tcpudp vgem udmabuf
""".split()

KERNELS = ("stable", "backports")
SECONDS = 200  # for one download


class Refused(Exception):
    """Why there can be no image, and what to do about it."""


def call(*words, cwd=None, seconds=SECONDS):
    try:
        result = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False)
    except FileNotFoundError as error:
        raise Refused(f"{words[0]} is not installed: run `make deps-rdma`") from error
    except subprocess.TimeoutExpired as error:
        raise Refused(f"{' '.join(words)} did not end within {seconds} s") from error
    if result.returncode != 0:
        raise Refused(f"{' '.join(words)}: {result.stderr.strip()[-800:]}")
    return result.stdout


def mirror():
    """Where this machine gets Debian from."""
    text = call("apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(REPO_URI)", "Identifier: Packages")
    for line in text.splitlines():
        origin, component, uri = line.split(None, 2)
        if (origin, component) == ("Debian", "main"):
            return uri
    return "http://deb.debian.org/debian/"


def backports_options():
    """Options of apt that know bookworm-backports alone; the machine's own lists stay as they are."""
    folder = os.path.join(FOLDER, "apt")
    os.makedirs(os.path.join(folder, "lists", "partial"), exist_ok=True)
    os.makedirs(os.path.join(folder, "cache", "archives", "partial"), exist_ok=True)
    with open(os.path.join(folder, "sources.list"), "w", encoding="utf-8") as file:
        key = "/usr/share/keyrings/debian-archive-keyring.gpg"
        file.write(f"deb [signed-by={key}] {mirror()} bookworm-backports main\n")
    values = {
        "Dir::Etc::SourceList": os.path.join(folder, "sources.list"),
        "Dir::Etc::SourceParts": "-",
        "Dir::State::Lists": os.path.join(folder, "lists"),
        "Dir::Cache": os.path.join(folder, "cache"),
    }
    options = [word for name, value in values.items() for word in ("-o", f"{name}={value}")]
    call("apt-get", *options, "update", "-q")
    return options


def package_of(kernel, options):
    """The package that Debian's linux-image-amd64 stands for today."""
    text = call("apt-cache", *options, "show", "linux-image-amd64")
    names = []
    for line in text.splitlines():
        if line.startswith("Depends:"):
            names += [word.strip().split()[0] for word in line[8:].split(",")]
    names = [name for name in names if name.startswith("linux-image-")]
    if not names:
        raise Refused(f"apt knows no {kernel} linux-image-amd64: run `apt-get update` as root first")
    return names[0]


def download(kernel, folder):
    options = backports_options() if kernel == "backports" else []
    # apt would like to become another user, who cannot write to our folder.
    words = ("-q", "-o", "APT::Sandbox::User=root", "download")
    call("apt-get", *options, *words, package_of(kernel, options), cwd=folder)
    packages = [name for name in os.listdir(folder) if name.endswith(".deb")]
    return os.path.join(folder, packages[0])


def unpack(package, folder):
    """The folder above lib/modules: newer kernels have it below usr."""
    call("dpkg-deb", "-x", package, folder)
    base = folder if os.path.isdir(os.path.join(folder, "lib", "modules")) else os.path.join(folder, "usr")
    release = os.listdir(os.path.join(base, "lib", "modules"))[0]
    call("depmod", "-b", base, release)
    return base, release


def module_files(base, release):
    """Paths of the modules, in an order in which they can be loaded."""
    found = []
    for module in MODULES:
        words = ("modprobe", "-d", base, "-S", release, "--show-depends", module)
        result = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
        lines = [line.split() for line in result.stdout.splitlines()]
        found += [line[1] for line in lines if line[0] == "insmod" and line[1] not in found]
    return found


def fill(tree, base, release):
    """The initial file system: busybox, the modules and tests/rdma/init."""
    for name in ("bin", "modules", "proc", "sys", "dev", "host", "over", "root"):
        os.makedirs(os.path.join(tree, name))
    busybox = shutil.which("busybox")
    if not busybox:
        raise Refused("busybox is not installed: run `make deps-rdma`")
    shutil.copy(busybox, os.path.join(tree, "bin", "busybox"))
    shutil.copy(os.path.join(HERE, "init"), os.path.join(tree, "init"))
    os.chmod(os.path.join(tree, "init"), 0o755)
    names = []
    for path in module_files(base, release):
        name = os.path.basename(path).split(".ko")[0] + ".ko"
        place = os.path.join(tree, "modules", name)
        shutil.copy(path, place + path.rpartition(".ko")[2])
        if path.endswith(".xz"):
            call("xz", "-d", place + ".xz")
        names.append(name)
    with open(os.path.join(tree, "modules", "order"), "w", encoding="utf-8") as file:
        file.write("\n".join(names) + "\n")


def pack(tree, place):
    call("sh", "-c", 'find . | cpio -o -H newc --quiet | gzip -1 > "$0"', place, cwd=tree)


def unpacked(kernel):
    """The ELF file in a kernel's image, by the x86 boot protocol; the image where that is not of xz. In a
    guest it would take some seconds to unpack itself."""
    sectors = kernel[0x1F1] or 4
    offset, length = struct.unpack_from("<II", kernel, 0x248)
    begin = 512 * (1 + sectors) + offset
    try:
        return lzma.LZMADecompressor().decompress(kernel[begin : begin + length])
    except lzma.LZMAError:
        return kernel


def make(kernel, place):
    with tempfile.TemporaryDirectory(dir=FOLDER, prefix="making-") as folder:
        package = download(kernel, folder)
        base, release = unpack(package, os.path.join(folder, "package"))
        tree = os.path.join(folder, "tree")
        os.makedirs(tree)
        fill(tree, base, release)
        made = os.path.join(folder, "made")
        os.makedirs(made)
        with open(os.path.join(folder, "package", "boot", f"vmlinuz-{release}"), "rb") as packed:
            with open(os.path.join(made, "kernel"), "wb") as file:
                file.write(unpacked(packed.read()))
        pack(tree, os.path.join(made, "initrd"))
        shutil.rmtree(place, ignore_errors=True)
        os.rename(made, place)


def inputs():
    """A digest of what an image is made of, but for the kernel, which comes new with a new name."""
    digest = hashlib.sha256()
    for path in (os.path.join(HERE, "init"), os.path.join(HERE, "image.py"), shutil.which("busybox")):
        if path:
            with open(path, "rb") as file:
                digest.update(file.read())
    return digest.hexdigest()[:16]


def get(kernel):
    """The folder of kernel and initrd; made when it is not there."""
    if kernel not in KERNELS:
        raise Refused(f"kernels are {' and '.join(KERNELS)}, and not '{kernel}'")
    os.makedirs(FOLDER, exist_ok=True)
    place = os.path.join(FOLDER, f"{kernel}-{inputs()}")
    if not os.path.exists(os.path.join(place, "initrd")):
        for name in os.listdir(FOLDER):
            if name.startswith(kernel + "-"):
                shutil.rmtree(os.path.join(FOLDER, name), ignore_errors=True)
        make(kernel, place)
    return place
