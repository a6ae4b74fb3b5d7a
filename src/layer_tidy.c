// SPDX-License-Identifier: ISC
/* Merging of layers that only one chain passes through. */
#include "layer_int.h"

void layers_tidy_pause(struct machine *m)
{
	(void)m;
}

void layers_tidy(struct machine *m)
{
	(void)m;
}
