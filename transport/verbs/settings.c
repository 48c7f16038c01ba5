/* SPDX-License-Identifier: Apache-2.0 */
/* MANTA_VERBS_*. */
#include <stdio.h>
#include <stdlib.h>

#include "transport/verbs/verbs.h"

static const char *text_of(const struct manta_transport_host *host, const char *variable)
{
    const char *text = host->config(variable);
    return text != NULL ? text : "";
}

static uint32_t number_of(const struct manta_transport_host *host, const char *variable,
                          uint32_t otherwise)
{
    const char *text = text_of(host, variable);
    return text[0] != '\0' ? (uint32_t)strtoul(text, NULL, 10) : otherwise;
}

int mt_verbs_settings_read(struct mt_verbs_endpoint *endpoint, char *why, size_t why_bytes)
{
    const struct manta_transport_host *host = endpoint->host;
    struct mt_verbs_settings *settings = &endpoint->settings;
    uint32_t mtu_bytes = number_of(host, "VERBS_MTU", 4096);
    settings->devices = text_of(host, "VERBS_DEVICE");
    settings->gid = text_of(host, "VERBS_GID");
    settings->timeout = number_of(host, "VERBS_TIMEOUT", 16);
    settings->retries = number_of(host, "VERBS_RETRIES", 6);
    settings->traffic_class = number_of(host, "VERBS_TRAFFIC_CLASS", 0);
    settings->service_level = number_of(host, "VERBS_SERVICE_LEVEL", 0);
    settings->pkey_index = number_of(host, "VERBS_PKEY", 0);
    settings->rings = number_of(host, "VERBS_RINGS", 16);
    settings->mtu = IBV_MTU_256;
    while (settings->mtu < IBV_MTU_4096 && 128u << settings->mtu < mtu_bytes)
        settings->mtu++;
    const char *wrong =
        128u << settings->mtu != mtu_bytes ? "MANTA_VERBS_MTU must be 256, 512, 1024, 2048 or 4096"
        : settings->timeout < 1 || settings->timeout > 31
            ? "MANTA_VERBS_TIMEOUT must be a number from 1 to 31"
        : settings->retries > 7            ? "MANTA_VERBS_RETRIES must be 0 to 7"
        : settings->traffic_class > 255    ? "MANTA_VERBS_TRAFFIC_CLASS must be 0 to 255"
        : settings->service_level > 15     ? "MANTA_VERBS_SERVICE_LEVEL must be 0 to 15"
        : settings->rings > MT_VERBS_RINGS ? "MANTA_VERBS_RINGS must be 0 to 64"
        : settings->pkey_index > 65535     ? "MANTA_VERBS_PKEY must be 0 to 65535"
                                           : NULL;
    if (wrong == NULL)
        return 0;
    snprintf(why, why_bytes, "%s", wrong);
    return MANTA_EINVAL;
}
