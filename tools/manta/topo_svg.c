/* SPDX-License-Identifier: Apache-2.0 */
/* A cluster as a drawing: boxes in boxes, equal siblings as one stack with their number. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/manta/topo.h"

/* In units of the drawing. */
enum {
    PADDING = 12,
    GAP = 10,
    TITLE = 20,
    DETAIL = 16,
    LETTER = 8, /* width of one, a little more than most are */
    STACK = 5,  /* how far those behind the first one look out */
    ROW_MOST = 900,
    TEXT_BYTES = 160
};

struct area {
    uint32_t width, height;
};

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static uint32_t stack_of(const struct mt_box *box)
{
    return box->count > 2 ? 2 * STACK : box->count > 1 ? STACK : 0;
}

/* A device: a line of text in a box of its own. */
static void device_text(const struct mt_devices *devices, uint32_t i, char *text)
{
    if (i < devices->nic_count) {
        const struct mt_nic *nic = &devices->nics[i];
        snprintf(text, TEXT_BYTES, "NIC %s %s", nic->name[0] ? nic->name : nic->rdma,
                 nic->device.pci);
        return;
    }
    i -= devices->nic_count;
    snprintf(text, TEXT_BYTES, "GPU %u %s %s", i, devices->gpus[i].vendor,
             devices->gpus[i].device.pci);
}

static uint32_t device_count(const struct mt_box *box)
{
    return box->devices ? box->devices->nic_count + box->devices->gpu_count : 0;
}

static uint32_t width_of(const char *text)
{
    return (uint32_t)strlen(text) * LETTER;
}

/* Next place in rows: moves *x and *y on, and the area that is needed grows. */
struct rows {
    uint32_t x, y, row_height;
    struct area needed;
};

static void put(struct rows *rows, struct area area, uint32_t *x_out, uint32_t *y_out)
{
    if (rows->x > 0 && rows->x + area.width > ROW_MOST) {
        rows->x = 0;
        rows->y += rows->row_height + GAP;
        rows->row_height = 0;
    }
    *x_out = rows->x;
    *y_out = rows->y;
    rows->row_height = larger(rows->row_height, area.height);
    rows->needed.width = larger(rows->needed.width, rows->x + area.width);
    rows->needed.height = larger(rows->needed.height, rows->y + rows->row_height);
    rows->x += area.width + GAP;
}

static struct area area_of(const struct mt_box *box);

/* How far down what is in a box begins. */
static uint32_t head_of(const struct mt_box *box)
{
    char details[TEXT_BYTES];
    topo_details(box, details, sizeof details);
    return PADDING + TITLE + (details[0] ? DETAIL : 0);
}

static struct area device_area(const struct mt_box *box, uint32_t i)
{
    char text[TEXT_BYTES];
    device_text(box->devices, i, text);
    return (struct area){width_of(text) + PADDING, TITLE + GAP};
}

static struct area area_of(const struct mt_box *box)
{
    char title[TEXT_BYTES], details[TEXT_BYTES];
    struct rows rows = {0};
    uint32_t x, y;
    topo_title(box, title, sizeof title);
    topo_details(box, details, sizeof details);
    for (uint32_t i = 0; i < box->child_count; i++)
        put(&rows, area_of(&box->children[i]), &x, &y);
    for (uint32_t i = 0; i < device_count(box); i++)
        put(&rows, device_area(box, i), &x, &y);
    uint32_t width = larger(rows.needed.width, larger(width_of(title), width_of(details)));
    return (struct area){width + 2 * PADDING + stack_of(box),
                         head_of(box) + rows.needed.height + PADDING + stack_of(box)};
}

static void write_text(FILE *file, const char *class, uint32_t x, uint32_t y, const char *text)
{
    fprintf(file, "<text class=\"%s\" x=\"%u\" y=\"%u\">", class, x, y);
    for (; *text; text++) {
        int letter = *text < 0x20 || *text > 0x7e ? '?' : *text;
        if (letter == '<' || letter == '>' || letter == '&')
            fprintf(file, "&#%d;", letter);
        else
            fputc(letter, file);
    }
    fputs("</text>\n", file);
}

static void write_rectangle(FILE *file, const char *class, uint32_t x, uint32_t y, struct area area)
{
    fprintf(file, "<rect class=\"%s\" x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" rx=\"5\"/>\n",
            class, x, y, area.width, area.height);
}

static void write_box(FILE *file, const struct mt_box *box, uint32_t x, uint32_t y)
{
    char title[TEXT_BYTES], details[TEXT_BYTES];
    struct rows rows = {0};
    struct area area = area_of(box);
    const char *class = mt_level_name(box->level);
    uint32_t stack = stack_of(box), at_x, at_y;
    area.width -= stack;
    area.height -= stack;
    for (uint32_t behind = stack; behind > 0; behind -= STACK)
        write_rectangle(file, class, x + behind, y + behind, area);
    write_rectangle(file, class, x, y, area);
    topo_title(box, title, sizeof title);
    topo_details(box, details, sizeof details);
    write_text(file, "title", x + PADDING, y + TITLE, title);
    if (details[0])
        write_text(file, "detail", x + PADDING, y + TITLE + DETAIL, details);
    x += PADDING;
    y += head_of(box);
    for (uint32_t i = 0; i < box->child_count; i++) {
        put(&rows, area_of(&box->children[i]), &at_x, &at_y);
        write_box(file, &box->children[i], x + at_x, y + at_y);
    }
    for (uint32_t i = 0; i < device_count(box); i++) {
        char text[TEXT_BYTES];
        struct area device = device_area(box, i);
        device_text(box->devices, i, text);
        put(&rows, device, &at_x, &at_y);
        write_rectangle(file, "device", x + at_x, y + at_y, device);
        write_text(file, "detail", x + at_x + PADDING / 2, y + at_y + TITLE, text);
    }
}

static void write_drawing(const struct mt_cluster *cluster, FILE *file)
{
    static const char style[] =
        "rect{stroke:#34618e;stroke-width:1.2}"
        ".cluster{fill:#fff}.zone{fill:#f4f4f4}.rack{fill:#e4efe4}.node{fill:#fdf3dc}"
        ".package{fill:#fff}.numa{fill:#eef4fb}.l3{fill:#dfeaf6}.core{fill:#cfdff1}"
        ".device{fill:#f6e3ee}"
        "text{font-family:sans-serif;fill:#222}.title{font-size:14px;font-weight:bold}"
        ".detail{font-size:12px}";
    const struct mt_box *outermost = &cluster->root;
    if (outermost->child_count == 1 && outermost->children[0].count == 1)
        outermost = outermost->children; /* a box around one box tells nothing */
    struct area area = area_of(outermost);
    area.width += 2 * PADDING;
    area.height += 2 * PADDING;
    fprintf(file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %u %u\" width=\"%u\" "
            "height=\"%u\">\n<title>Topology</title>\n<style>%s</style>\n",
            area.width, area.height, area.width, area.height, style);
    write_box(file, outermost, PADDING, PADDING);
    fputs("</svg>\n", file);
}

int topo_svg_write(const struct mt_cluster *cluster, const char *path)
{
    FILE *file = fopen(path, "we");
    if (!file)
        return errno;
    write_drawing(cluster, file);
    int failed = ferror(file) ? EIO : 0;
    if (fclose(file) != 0 && !failed)
        failed = errno;
    return failed;
}
