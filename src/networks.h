/* SPDX-License-Identifier: ISC */
#ifndef FV_NETWORKS_H
#define FV_NETWORKS_H
/* What the model as a whole does with its networks. */
#include "util/err.h"

struct model;
struct networks;

/*
 * Loads them from the state, takes up what an earlier daemon left on the host, removes what
 * belongs to nobody. After the machines are loaded and their VMMs found. networks_close() also
 * where it failed.
 */
int networks_open(struct networks **networks, struct model *model, struct err *err);
/* Those with autostart. */
void networks_autostart(struct networks *networks);
/* Ends the thread, and the networks without machines; the others run on. NULL is fine. */
void networks_close(struct networks *networks);

#endif
