/* SPDX-License-Identifier: ISC */
#ifndef FV_VERSION_H
#define FV_VERSION_H

#define FILEVISOR_VERSION 1 /* of the tree's format */
#define FILEVISOR_RELEASE "0.1.0"

#endif
