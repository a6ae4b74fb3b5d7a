// SPDX-License-Identifier: ISC
/* guest_hello.c with a note that asks for the PVH entry: the one that QEMU boots, too. */
#include "guest_hello.c"

GUEST_PVH;
