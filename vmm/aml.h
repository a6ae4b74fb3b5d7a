/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_AML_H
#define FV_VMM_AML_H
/*
 * A small encoder for ACPI Machine Language (ACPI 6.4 §20): what a DSDT of
 * names, packages, devices, resource templates and simple methods needs, written in one pass
 * into memory of fixed size. An object with a length is opened and closed:
 *
 *	size_t dev = aml_device(aml, "COM1");
 *	aml_name_eisaid(aml, "_HID", "PNP0501");
 *	aml_end(aml, dev);
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aml {
	uint8_t *data;
	size_t len, cap;
	bool overflow; /* something did not fit: contents are of no use */
};

/* Bytes as they are. */
void aml_bytes(struct aml *aml, const void *data, size_t len);
/* @size little-endian bytes of @v. */
void aml_raw(struct aml *aml, uint64_t v, unsigned size);

/* Terms. */
void aml_int(struct aml *aml, uint64_t v); /* in its shortest encoding */
void aml_string(struct aml *aml, const char *s);
void aml_eisaid(struct aml *aml, const char *id); /* "PNP0501" */
/* A path of segments of up to 4 letters: "_S5", "\\_SB", "PCI0.ISA". */
void aml_path(struct aml *aml, const char *path);

/* Name(NAME, …); the term for its value follows unless it is given. */
void aml_name(struct aml *aml, const char *name);
void aml_name_int(struct aml *aml, const char *name, uint64_t v);
void aml_name_string(struct aml *aml, const char *name, const char *s);
void aml_name_eisaid(struct aml *aml, const char *name, const char *id);

/* Open an object; the mark is for aml_end(). */
size_t aml_scope(struct aml *aml, const char *path);
size_t aml_device(struct aml *aml, const char *name);
size_t aml_package(struct aml *aml, unsigned n_elements);
void aml_end(struct aml *aml, size_t mark);

/* Ports as an operation region, fields of it that are accessed as double words, no lock. */
void aml_region_io(struct aml *aml, const char *name, uint16_t port, uint8_t len);
size_t aml_field_dwords(struct aml *aml, const char *region);
void aml_field_unit(struct aml *aml, const char *name, uint8_t bits); /* at most 63 */

/* Methods: terms follow one another. aml_if(): the condition first, then what it is for. */
enum aml_op { AML_STORE = 0x70, AML_AND = 0x7b, AML_NOTIFY = 0x86 };
size_t aml_method(struct aml *aml, const char *name, unsigned n_args);
size_t aml_if(struct aml *aml);
void aml_op(struct aml *aml, enum aml_op op);
void aml_local(struct aml *aml, unsigned n);

/* A resource template (§6.4), as the value of a name. */
size_t aml_resources(struct aml *aml);
void aml_resources_end(struct aml *aml, size_t mark);
/* A fixed range of ports that the device decodes. */
void aml_res_io(struct aml *aml, uint16_t base, uint8_t len);
/* One ISA interrupt: edge, active high, exclusive. */
void aml_res_irq(struct aml *aml, unsigned irq);
/* Ranges that a bridge passes on: bus numbers, ports, memory; @last is inclusive. */
void aml_res_window_bus(struct aml *aml, uint16_t first, uint16_t last);
void aml_res_window_io(struct aml *aml, uint16_t first, uint16_t last);
void aml_res_window_mem32(struct aml *aml, uint32_t first, uint32_t last);
void aml_res_window_mem64(struct aml *aml, uint64_t first, uint64_t last);

#endif
