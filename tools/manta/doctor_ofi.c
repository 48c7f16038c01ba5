/* SPDX-License-Identifier: Apache-2.0 */
/* What the ofi transport would find here: libfabric, its providers, and which it would take. */
#include <stdio.h>
#include <string.h>

#include "core/config.h"
#include "tools/manta/doctor.h"
#include "topology/place.h"
#include "transport/ofi/ofi.h"
#include "transport/ofi/present.h"

/* Is it said that ofi is to be used? */
static int is_wanted(void)
{
    return (mt_config_is_set(MT_VAR(TRANSPORTS)) &&
            strstr(mt_config_string(MT_VAR(TRANSPORTS)), "ofi") != NULL) ||
           mt_config_is_set(MT_VAR(OFI_PROVIDER)) || mt_config_is_set(MT_VAR(OFI_DOMAIN));
}

/* What is missing is a problem for who wants it, a pity where a network is made for it, and else
 * nothing. */
static void say_missing(const char *reason)
{
    if (is_wanted())
        doctor_say(DOCTOR_PROBLEM, "libfabric", "%s", reason);
    else if (mt_ofi_is_present(""))
        doctor_say(DOCTOR_WARNING, "libfabric",
                   "%s; this host has a network that only ofi reaches, so tcp is used", reason);
    else
        doctor_say(DOCTOR_OK, "libfabric", "%s; nothing here needs it", reason);
}

void doctor_ofi(void)
{
    char reason[256], providers[256];
    const struct mt_ofi_library *library = mt_ofi_library(reason, sizeof(reason));
    if (library == NULL) {
        say_missing(reason);
        return;
    }
    mt_ofi_library_expect(1);
    const struct mt_ofi_wish wish = {.provider = mt_config_string(MT_VAR(OFI_PROVIDER)),
                                     .domain = mt_config_string(MT_VAR(OFI_DOMAIN)),
                                     .numa = mt_place_numa_of_thread()};
    struct fi_info *chosen = mt_ofi_choose(library, &wish, reason, sizeof(reason));
    if (chosen == NULL) {
        say_missing(reason);
        return;
    }
    const char *provider = chosen->fabric_attr->prov_name;
    mt_ofi_list(library, providers, sizeof(providers));
    doctor_say(DOCTOR_OK, "libfabric", "%u.%u, with %s", FI_MAJOR(library->version()),
               FI_MINOR(library->version()), providers);
    doctor_say(DOCTOR_OK, "libfabric", "ofi would use %s on %s, %s%s", provider,
               chosen->domain_attr->name,
               mt_ofi_can_write(chosen) ? "long messages without a copy" : "long messages copied",
               mt_ofi_is_fabric(provider) ? "" : "; tcp is the better choice here");
    library->freeinfo(chosen);
}
