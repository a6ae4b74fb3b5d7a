/* SPDX-License-Identifier: ISC */
#ifndef FV_STORAGE_POOL_LVM_H
#define FV_STORAGE_POOL_LVM_H
/* The parts of the volume group's driver: what its tools print, and running them. */
#include "storage/pool.h"
#include "util/strbuf.h"

/* What to ask of lvs and vgs, in the order that the parsers expect. */
#define LVS_FIELDS "lv_name,lv_size,lv_attr,lv_uuid,data_percent"
#define VGS_FIELDS "vg_size,vg_free"

/*
 * Reads what `lvs --noheadings --nosuffix --units b --separator '|' -o LVS_FIELDS` prints. Thin
 * pools and the like, which hold volumes and are none, are left out. -EPROTO with words.
 */
int lvm_parse_lvs(char *text, struct storage_list *list, struct err *err);
/* The same of vgs: one line. */
int lvm_parse_vgs(char *text, struct storage_list *list, struct err *err);

#endif
