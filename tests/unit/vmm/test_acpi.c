// SPDX-License-Identifier: ISC
/* ACPI tables: found from their root, whole, true; the DSDT as iasl understands it. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/vmm/boot_fixture.h"
#include "vmm/aml.h"

#define GIB   (1ull << 30)
#define SLOTS 0xfffffff8 /* all that can be */

static uint64_t le(const uint8_t *p, unsigned size)
{
	uint64_t v = 0;

	while (size--)
		v = v << 8 | p[size];
	return v;
}

static void check_sum(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + p[i]);
	assert_int_equal(sum, 0);
}

/* The table at @gpa, checked as a guest would. */
static const uint8_t *table_at(const struct gmem *mem, uint64_t gpa, const char *signature)
{
	const uint8_t *p = gmem_ptr(mem, gpa, 36);

	assert_true(gpa >= LAYOUT_ACPI && gpa < LAYOUT_ACPI_END);
	assert_non_null(p);
	assert_memory_equal(p, signature, 4);
	assert_true(gpa + le(p + 4, 4) <= LAYOUT_ACPI_END);
	if (strcmp(signature, "FACS") != 0)
		check_sum(p, le(p + 4, 4));
	return p;
}

static const uint8_t *find_table(const struct gmem *mem, const char *signature)
{
	const uint8_t *rsdp = gmem_ptr(mem, LAYOUT_ACPI, 36), *xsdt;

	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_int_equal(rsdp[15], 2);
	check_sum(rsdp, 20);
	check_sum(rsdp, 36);
	xsdt = table_at(mem, le(rsdp + 24, 8), "XSDT");
	for (size_t at = 36; at < le(xsdt + 4, 4); at += 8) {
		uint64_t gpa = le(xsdt + at, 8);

		if (memcmp(gmem_ptr(mem, gpa, 4), signature, 4) == 0)
			return table_at(mem, gpa, signature);
	}
	fail_msg("no table %s", signature);
	return NULL;
}

static const uint8_t *find_dsdt(const struct gmem *mem)
{
	return table_at(mem, le(find_table(mem, "FACP") + 40, 4), "DSDT");
}

static void fadt(void **state)
{
	_cleanup_memory_ struct gmem mem;
	const uint8_t *f;

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	assert_int_equal(acpi_write(&mem, 1, SLOTS, NULL), 0);
	f = find_table(&mem, "FACP");
	assert_int_equal(le(f + 4, 4), 276);
	table_at(&mem, le(f + 36, 4), "FACS");
	assert_int_equal(le(f + 36, 4) % 64, 0);
	assert_int_equal(le(f + 40, 4), le(f + 140, 8)); /* both pointers to the DSDT */
	assert_int_equal(le(f + 46, 2), LAYOUT_IRQ_SCI);
	assert_int_equal(le(f + 48, 4), 0); /* no SMI port: ACPI is always on */
	assert_int_equal(le(f + 56, 4), LAYOUT_PORT_PM_EVT);
	assert_int_equal(le(f + 152, 8), LAYOUT_PORT_PM_EVT);
	assert_int_equal(le(f + 64, 4), LAYOUT_PORT_PM_CNT);
	assert_int_equal(le(f + 76, 4), LAYOUT_PORT_PM_TMR);
	assert_int_equal(le(f + 80, 4), LAYOUT_PORT_GPE0);
	assert_int_equal(f[88], 4);
	assert_int_equal(f[89], 2);
	assert_int_equal(f[91], 4);
	assert_int_equal(f[92], 4);
	assert_int_equal(f[116], 1);
	assert_int_equal(le(f + 120, 8), LAYOUT_PORT_RESET);
	assert_int_equal(f[128], 6);
	assert_int_equal(le(f + 112, 4) & 1u << 4, 0);	/* a fixed power button */
	assert_int_equal(le(f + 112, 4) & 1u << 20, 0); /* not hardware-reduced */
	assert_int_equal(le(f + 112, 4) >> 8 & 1, 1);	/* a timer of 32 bits */
	assert_int_equal(le(f + 112, 4) >> 10 & 1, 1);	/* reset register */
	assert_int_equal(le(f + 109, 2) & 2, 0);	/* no keyboard to look for */
}

static void madt_of(unsigned cpus)
{
	_cleanup_memory_ struct gmem mem;
	unsigned n_cpus = 0, n_ioapics = 0, n_overrides = 0, n_nmis = 0;
	const uint8_t *m;

	memory_make(&mem, 16 * MIB, 0);
	assert_int_equal(acpi_write(&mem, cpus, SLOTS, NULL), 0);
	m = find_table(&mem, "APIC");
	assert_int_equal(le(m + 36, 4), LAYOUT_LAPIC);
	for (size_t at = 44; at < le(m + 4, 4); at += m[at + 1]) {
		const uint8_t *e = m + at;

		assert_true(e[1] >= 2);
		switch (e[0]) {
		case 0:
			assert_int_equal(e[2], n_cpus);
			assert_int_equal(e[3], n_cpus);
			assert_int_equal(le(e + 4, 4), 1);
			n_cpus++;
			break;
		case 1:
			assert_int_equal(le(e + 4, 4), LAYOUT_IOAPIC);
			assert_int_equal(le(e + 8, 4), 0);
			n_ioapics++;
			break;
		case 2:
			assert_int_equal(le(e + 4, 4), e[3] == 0 ? 2 : LAYOUT_IRQ_SCI);
			assert_int_equal(le(e + 8, 2), e[3] == 0 ? 0 : 0xd);
			n_overrides++;
			break;
		case 4:
			n_nmis++;
			break;
		default:
			fail_msg("entry of type %u", e[0]);
		}
	}
	assert_int_equal(n_cpus, cpus);
	assert_int_equal(n_ioapics, 1);
	assert_int_equal(n_overrides, 2);
	assert_int_equal(n_nmis, 1);
}

static void madt(void **state)
{
	(void)state;
	madt_of(1);
	madt_of(2);
	madt_of(VMM_CPUS_MAX);
}

static void mcfg(void **state)
{
	_cleanup_memory_ struct gmem mem;
	const uint8_t *m;

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	assert_int_equal(acpi_write(&mem, 1, SLOTS, NULL), 0);
	m = find_table(&mem, "MCFG");
	assert_int_equal(le(m + 4, 4), 60);
	assert_int_equal(le(m + 44, 8), LAYOUT_ECAM);
	assert_int_equal(le(m + 52, 2), 0);
	assert_int_equal(m[54], 0);
	assert_int_equal(m[55], 0);
}

/* The 64-bit window lies behind RAM: its descriptor in the DSDT. */
static void window_behind_ram(void **state)
{
	static const struct {
		uint64_t high, base;
	} rows[] = {{0, 64 * GIB}, {GIB, 64 * GIB}, {61 * GIB, 128 * GIB}, {60 * GIB, 64 * GIB}};
	struct gmem mem;

	(void)state;
	for (size_t i = 0; i < nitems(rows); i++) {
		const uint8_t *p, *end;

		memory_make(&mem, 16 * MIB, rows[i].high);
		assert_int_equal(acpi_write(&mem, 1, SLOTS, NULL), 0);
		p = find_dsdt(&mem);
		end = p + le(p + 4, 4) - 46;
		while (p < end && !(p[0] == 0x8a && p[1] == 0x2b && p[2] == 0 && p[3] == 0))
			p++;
		assert_true(p < end);
		assert_int_equal(le(p + 14, 8), rows[i].base);
		assert_int_equal(le(p + 22, 8), rows[i].base + 64 * GIB - 1);
		assert_int_equal(le(p + 38, 8), 64 * GIB);
		memory_free(&mem);
	}
}

static void run_in(const char *dir, const char *command, char *out, size_t size)
{
	char line[512];
	size_t n;
	FILE *f;

	snprintf(line, sizeof(line), "cd %s && { %s; } 2>&1", dir, command);
	f = popen(line, "r");
	assert_non_null(f);
	n = fread(out, 1, size - 1, f);
	out[n] = '\0';
	assert_int_equal(pclose(f), 0);
}

static void write_file(const char *dir, const char *name, const uint8_t *data, size_t len)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

/* iasl reads every table and compiles the DSDT that it disassembled, without a word. */
static void understood_by_iasl(void **state)
{
	static const char *const names[] = {"FACP", "APIC", "MCFG"};
	char dir[] = "/tmp/test-acpi-XXXXXX", out[65536];
	_cleanup_memory_ struct gmem mem;
	const uint8_t *p;

	(void)state;
	if (system("command -v iasl >/dev/null") != 0)
		skip();
	assert_non_null(mkdtemp(dir));
	memory_make(&mem, 16 * MIB, 0);
	assert_int_equal(acpi_write(&mem, 3, SLOTS, NULL), 0);
	for (size_t i = 0; i < nitems(names); i++) {
		p = find_table(&mem, names[i]);
		write_file(dir, names[i], p, le(p + 4, 4));
		snprintf(out, 100, "iasl -p %s.out -d %s", names[i], names[i]);
		run_in(dir, strdupa(out), out, sizeof(out));
		assert_null(strstr(out, "rror"));
		assert_null(strstr(out, "arning"));
	}
	p = find_dsdt(&mem);
	write_file(dir, "dsdt.dat", p, le(p + 4, 4));
	run_in(dir, "iasl -d dsdt.dat && iasl dsdt.dsl", out, sizeof(out));
	if (!strstr(out, "0 Errors, 0 Warnings, 0 Remarks"))
		fail_msg("%s", out);
	run_in(dir, "cat dsdt.dsl", out, sizeof(out));
	assert_non_null(strstr(out, "PNP0A08"));
	assert_non_null(strstr(out, "Device (C002)"));
	assert_null(strstr(out, "Device (C003)"));
	assert_non_null(strstr(out, "\"VM_Gen_Counter\""));
	assert_non_null(strstr(out, "0x000EF000"));
	assert_non_null(strstr(out, "Notify (\\_SB.VGEN, 0x80)"));
	run_in("/tmp", strcat(strcpy(out, "rm -r "), dir), out + 100, 1000);
}

static void aml_check(const struct aml *aml, const uint8_t *want, size_t len)
{
	assert_false(aml->overflow);
	assert_int_equal(aml->len, len);
	assert_memory_equal(aml->data, want, len);
}

static void aml_integers_and_names(void **state)
{
	static const uint8_t want[] = {0x00, 0x01, 0x0a, 0x02, 0x0a, 0xff, 0x0b, 0x00,
				       0x01, 0x0c, 0,	 0,    1,    0,	   0x0e, 0,
				       0,    0,	   0,	 1,    0,    0,	   0, /* ints */
				       'A',  '_',  '_',	 '_',  '\\', '_',  'S',	 'B',
				       '_',  0x2e, 'P',	 'C',  'I',  '0', /* paths */
				       'C',  'O',  'M',	 '1',  0x2f, 3,	   'A',	 '_',
				       '_',  '_',  'B',	 '_',  '_',  '_',  'C',	 '_',
				       '_',  '_',  0x0c, 0x41, 0xd0, 0x0a, 0x08};
	uint8_t buf[128];
	struct aml aml = {.data = buf, .cap = sizeof(buf)};

	(void)state;
	aml_int(&aml, 0);
	aml_int(&aml, 1);
	aml_int(&aml, 2);
	aml_int(&aml, 255);
	aml_int(&aml, 256);
	aml_int(&aml, 65536);
	aml_int(&aml, 1ull << 40 >> 8);
	aml_path(&aml, "A");
	aml_path(&aml, "\\_SB");
	aml_path(&aml, "PCI0.COM1");
	aml_path(&aml, "A.B.C");
	aml_eisaid(&aml, "PNP0A08");
	aml_check(&aml, want, sizeof(want));
}

/* PkgLength at the edges of its forms: 1, 2, 3 bytes. */
static void aml_lengths(void **state)
{
	static const struct {
		size_t body, bytes;
	} rows[] = {{58, 1}, {59, 2}, {4089, 2}, {4090, 3}, {70000, 3}};
	static uint8_t buf[80000], zeroes[80000];

	(void)state;
	for (size_t i = 0; i < nitems(rows); i++) {
		struct aml aml = {.data = buf, .cap = sizeof(buf)};
		size_t mark = aml_scope(&aml, "X"), n, len;

		aml_bytes(&aml, zeroes, rows[i].body);
		aml_end(&aml, mark);
		assert_int_equal(aml.len, 1 + rows[i].bytes + 4 + rows[i].body);
		n = (buf[1] >> 6) + 1u;
		assert_int_equal(n, rows[i].bytes);
		len = n == 1 ? buf[1] : (buf[1] & 15u);
		for (size_t b = 1; b < n; b++)
			len |= (size_t)buf[1 + b] << (8 * b - 4);
		assert_int_equal(len, aml.len - 1);
		assert_memory_equal(buf + 1 + n, "X___", 4);
	}
}

static void aml_overflow(void **state)
{
	uint8_t buf[32];

	(void)state;
	for (size_t cap = 0; cap < sizeof(buf); cap++) {
		struct aml aml = {.data = buf, .cap = cap};
		size_t dev, res;

		memset(buf, 0xee, sizeof(buf));
		dev = aml_device(&aml, "DEV");
		aml_name(&aml, "_CRS");
		res = aml_resources(&aml);
		aml_res_window_mem64(&aml, 0, 1);
		aml_resources_end(&aml, res);
		aml_end(&aml, dev);
		assert_true(aml.overflow);
		for (size_t i = cap; i < sizeof(buf); i++)
			assert_int_equal(buf[i], 0xee);
	}
}

static void no_memory_there(void **state)
{
	struct gmem mem = {0};
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(acpi_write(&mem, 1, SLOTS, &err), -EFBIG);
	assert_true(err.text[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(fadt),
	    cmocka_unit_test(madt),
	    cmocka_unit_test(mcfg),
	    cmocka_unit_test(window_behind_ram),
	    cmocka_unit_test(understood_by_iasl),
	    cmocka_unit_test(aml_integers_and_names),
	    cmocka_unit_test(aml_lengths),
	    cmocka_unit_test(aml_overflow),
	    cmocka_unit_test(no_memory_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
