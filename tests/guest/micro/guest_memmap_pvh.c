// SPDX-License-Identifier: ISC
/* guest_memmap.c with a note that asks for the PVH entry. */
#include "guest_memmap.c"

#ifndef GUEST_WITH_PVH
GUEST_PVH;
#endif
