/* SPDX-License-Identifier: Apache-2.0 */
/* Network cards and GPUs of this host, as far as sysfs shows them here. */
#ifndef MT_TOPOLOGY_DEVICES_H
#define MT_TOPOLOGY_DEVICES_H

#include <stdint.h>

enum { MT_NICS = 64, MT_GPUS = 64 }; /* more are not listed */

struct mt_device {
    char pci[16];   /* "0000:3b:00.0"; "": not on PCI */
    int numa;       /* NUMA node of the kernel; -1: not known */
    char path[256]; /* below /sys/devices: the bridges it is behind */
};
struct mt_nic {
    char name[32];  /* interface; "": has none */
    char rdma[32];  /* RDMA device; "": none */
    uint32_t mbits; /* 0: not known, or down */
    struct mt_device device;
};
struct mt_gpu {
    char vendor[16]; /* "NVIDIA", "AMD", else the number: "8086" */
    struct mt_device device;
};
struct mt_devices {
    uint32_t nic_count, gpu_count;
    struct mt_nic nics[MT_NICS]; /* by name */
    struct mt_gpu gpus[MT_GPUS]; /* by PCI address */
};

/* Cards that are there: without any, the interfaces with a speed that stand for one in a container.
 * root is put before /sys: "" for this host. Never fails: what is not shown is not there. */
void mt_devices_read(const char *root, struct mt_devices *devices_out);

/* 1 if a PCI device of this class and vendor is a GPU or another accelerator: not what merely shows
 * the console of a server. vendor_out: its name or number. */
int mt_devices_is_gpu(uint32_t class_id, uint32_t vendor, char vendor_out[16]);

/* What the cards carry together, Mbit/s, and 0 if no speed is known. Interfaces that are no cards
 * may well go over the same one: then the fastest counts. */
uint32_t mt_devices_mbits(const struct mt_devices *devices);

enum mt_distance {
    MT_DISTANCE_SWITCH, /* behind one bridge: traffic between them need not pass the CPU */
    MT_DISTANCE_NUMA,   /* on one NUMA node, or on none that is known */
    MT_DISTANCE_OTHER
};
enum mt_distance mt_devices_distance(const struct mt_device *a, const struct mt_device *b);

#endif
