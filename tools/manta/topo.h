/* SPDX-License-Identifier: Apache-2.0 */
/* Clusters as the tool takes and shows them. */
#ifndef MT_TOOLS_TOPO_H
#define MT_TOOLS_TOPO_H

#include <stdio.h>

#include "topology/cluster.h"

/* "FILE.json", "FILE.xml" (of hwloc), or a line as topology/synthetic.h describes it. Close with
 * mt_cluster_close. 0, or a code and a sentence. */
int topo_load(const char *text, struct mt_cluster *cluster_out, struct mt_error *error);

/* The same with the first `size` ranks on it (0: all); free with mt_topology_free. */
int topo_load_ranks(const char *text, uint32_t size, struct mt_topology **topology_out,
                    struct mt_error *error);

/* Names of enum mt_placement. */
extern const char *const topo_placements[];

/* topo_json.c; topology: its ranks are written too; NULL: not. 0 or MANTA_ENOMEM. */
int topo_json_write(const struct mt_cluster *cluster, const struct mt_topology *topology,
                    FILE *stream);
/* topo_json_read.c */
int topo_json_read(const char *path, struct mt_cluster *cluster_out, struct mt_error *error);

/* topo_print.c */
/* As people write it: "L3", "NUMA", "rack". */
const char *topo_level_name(enum mt_level level);
void topo_print(const struct mt_cluster *cluster);
void topo_print_ranks(const struct mt_topology *topology);
/* What a box holds besides other boxes: "16 x node", "4 NICs, 8 GPUs"; "" for nothing. */
void topo_title(const struct mt_box *box, char *text, size_t text_bytes);
void topo_details(const struct mt_box *box, char *text, size_t text_bytes);
/* "100 Gbit/s" */
void topo_rate(uint64_t ps_per_byte, char *text, size_t text_bytes);

/* topo_svg.c; 0 or an errno. */
int topo_svg_write(const struct mt_cluster *cluster, const char *path);

#endif
