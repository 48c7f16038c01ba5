/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel is set up to do with TCP connections, as far as it decides how fast they are. */
#include "tools/manta/doctor.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What two hosts have under way that are joined by 100 Gbit/s and some 100 us. */
enum { BUFFER_BYTES = 2 << 20, TEXT_BYTES = 256 };

/* The file's first line; 0 if there is one. */
static int read_line(const char *path, char text[TEXT_BYTES])
{
    FILE *file = fopen(path, "re");
    char *line = file ? fgets(text, TEXT_BYTES, file) : NULL;
    if (file)
        fclose(file);
    if (!line)
        return -1;
    text[strcspn(text, "\n")] = '\0';
    return 0;
}

/* "4096 131072 6291456": the last is how far the kernel lets a buffer grow. */
static void check_buffer(const char *name, const char *whose)
{
    char path[64], text[TEXT_BYTES];
    unsigned long least, usual, most;
    snprintf(path, sizeof path, "/proc/sys/net/ipv4/%s", name);
    if (read_line(path, text) != 0 || sscanf(text, "%lu %lu %lu", &least, &usual, &most) != 3)
        return;
    if (most >= BUFFER_BYTES)
        doctor_say(DOCTOR_OK, "tcp buffers", "%s may grow to %lu KiB", whose, most >> 10);
    else
        doctor_say(DOCTOR_WARNING, "tcp buffers",
                   "%s may grow to %lu KiB only, too little for a fast network: sysctl -w "
                   "net.ipv4.%s='%lu %lu %d'",
                   whose, most >> 10, name, least, usual, 2 * BUFFER_BYTES);
}

static int has_word(const char *text, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = strstr(text, word); at; at = strstr(at + 1, word))
        if ((at == text || isspace((unsigned char)at[-1])) &&
            (at[length] == '\0' || isspace((unsigned char)at[length])))
            return 1;
    return 0;
}

/* MANTA_TCP_CONGESTION=auto takes reno where it pays, if it may. */
static void check_congestion_control(void)
{
    char used[TEXT_BYTES], allowed[TEXT_BYTES];
    if (read_line("/proc/sys/net/ipv4/tcp_congestion_control", used) != 0 ||
        read_line("/proc/sys/net/ipv4/tcp_allowed_congestion_control", allowed) != 0)
        return;
    int is_replaced = strncmp(used, "bbr", 3) == 0 || strcmp(used, "cubic") == 0;
    if (is_replaced && !has_word(allowed, "reno"))
        doctor_say(DOCTOR_WARNING, "tcp congestion",
                   "%s, which is slow between hosts that are near, and reno is not allowed: add it "
                   "to net.ipv4.tcp_allowed_congestion_control",
                   used);
    else
        doctor_say(DOCTOR_OK, "tcp congestion", "%s%s", used,
                   is_replaced ? "; reno where a path is short and fast" : "");
}

static void check_mtu(void)
{
    char all[TEXT_BYTES] = "", path[TEXT_BYTES + 32], text[TEXT_BYTES];
    size_t used = 0;
    DIR *folder = opendir("/sys/class/net");
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        snprintf(path, sizeof path, "/sys/class/net/%.64s/operstate", entry->d_name);
        if (entry->d_name[0] == '.' || read_line(path, text) != 0 || strcmp(text, "up") != 0)
            continue;
        snprintf(path, sizeof path, "/sys/class/net/%.64s/mtu", entry->d_name);
        if (read_line(path, text) == 0 && used + 96 < sizeof all)
            used += (size_t)snprintf(all + used, sizeof all - used, "%s%.64s %.16s",
                                     used ? ", " : "", entry->d_name, text);
    }
    if (folder)
        closedir(folder);
    if (used)
        doctor_say(DOCTOR_OK, "tcp MTU", "%s bytes; it must be alike on all that a path leads over",
                   all);
}

void doctor_tcp(void)
{
    check_buffer("tcp_wmem", "what is sent");
    check_buffer("tcp_rmem", "what is received");
    check_congestion_control();
    check_mtu();
}
