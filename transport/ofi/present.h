/* SPDX-License-Identifier: Apache-2.0 */
/* Is there a network that is reached by libfabric only, or best? */
#ifndef MT_TRANSPORT_OFI_PRESENT_H
#define MT_TRANSPORT_OFI_PRESENT_H

/* 1 if sysfs shows an Elastic Fabric Adapter or a Slingshot card. root is put before /sys: "" for
 * this host. Loads nothing. */
int mt_ofi_is_present(const char *root);

#endif
