// SPDX-License-Identifier: ISC
/* COM1 as a driver sees it: data, FIFO, interrupts, loopback; and under random writes. */
#include <linux/serial_reg.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_vm.h"
#include "vmm/devices.h"

static struct fake_vm *world(void)
{
	struct fake_vm *f = fake_vm_new();

	assert_non_null(fake_create(f, &serial_device));
	return f;
}

static uint8_t in(struct fake_vm *f, unsigned reg)
{
	return (uint8_t)fake_read(f, BUS_PIO, LAYOUT_PORT_COM1 + reg, 1);
}

static void out(struct fake_vm *f, unsigned reg, uint8_t value)
{
	fake_write(f, BUS_PIO, LAYOUT_PORT_COM1 + reg, 1, value);
}

static int line(struct fake_vm *f)
{
	return f->lines[LAYOUT_IRQ_COM1];
}

static void output_is_printed(void **state)
{
	struct fake_vm *f = world();

	(void)state;
	for (const char *s = "hello\n"; *s; s++) {
		assert_int_equal(in(f, UART_LSR) & UART_LSR_THRE, UART_LSR_THRE);
		out(f, UART_TX, (uint8_t)*s);
	}
	assert_int_equal(f->output_len, 6);
	assert_memory_equal(f->output, "hello\n", 6);
	assert_int_equal(f->line_changes, 0); /* nobody asked for interrupts */
	fake_vm_free(f);
}

static void divisor_is_apart_from_data(void **state)
{
	struct fake_vm *f = world();

	(void)state;
	out(f, UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
	out(f, UART_DLL, 0x12);
	out(f, UART_DLM, 0x34);
	assert_int_equal(in(f, UART_DLL), 0x12);
	assert_int_equal(in(f, UART_DLM), 0x34);
	out(f, UART_LCR, UART_LCR_WLEN8);
	assert_int_equal(in(f, UART_IER), 0);
	assert_int_equal(f->output_len, 0);
	out(f, UART_SCR, 0x5a);
	assert_int_equal(in(f, UART_SCR), 0x5a);
	fake_vm_free(f);
}

static void input_is_never_lost(void **state)
{
	static const char text[] = "more than a FIFO of sixteen bytes holds at any time";
	struct fake_vm *f = world();
	char got[sizeof(text)] = "";
	unsigned n = 0;

	(void)state;
	out(f, UART_FCR, UART_FCR_ENABLE_FIFO);
	fake_type(f, text);
	assert_int_equal(f->input_len, sizeof(text) - 1 - 16); /* the rest waits outside */
	while (in(f, UART_LSR) & UART_LSR_DR) {
		assert_true(n < sizeof(text));
		got[n++] = (char)in(f, UART_RX);
	}
	assert_string_equal(got, text);
	assert_int_equal(in(f, UART_LSR) & UART_LSR_OE, 0);
	fake_vm_free(f);
}

static void without_fifo_a_byte_at_a_time(void **state)
{
	struct fake_vm *f = world();

	(void)state;
	fake_type(f, "ab");
	assert_int_equal(f->input_len, 1);
	assert_int_equal(in(f, UART_RX), 'a');
	assert_int_equal(in(f, UART_LSR) & UART_LSR_DR, UART_LSR_DR);
	assert_int_equal(in(f, UART_RX), 'b');
	assert_int_equal(in(f, UART_LSR) & UART_LSR_DR, 0);
	assert_int_equal(in(f, UART_RX), 0);
	fake_vm_free(f);
}

static void received_data_interrupts(void **state)
{
	struct fake_vm *f = world();

	(void)state;
	out(f, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_4);
	out(f, UART_IER, UART_IER_RDI);
	assert_int_equal(in(f, UART_IIR), 0xc0 | UART_IIR_NO_INT);
	fake_type(f, "abc");
	assert_int_equal(line(f), 1);
	assert_int_equal(in(f, UART_IIR), 0xc0 | UART_IIR_RX_TIMEOUT);
	fake_type(f, "d");
	assert_int_equal(in(f, UART_IIR), 0xc0 | UART_IIR_RDI);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(line(f), 1);
		in(f, UART_RX);
	}
	assert_int_equal(line(f), 0);
	assert_int_equal(in(f, UART_IIR), 0xc0 | UART_IIR_NO_INT);
	fake_vm_free(f);
}

static void an_empty_transmitter_interrupts(void **state)
{
	struct fake_vm *f = world();

	(void)state;
	out(f, UART_IER, UART_IER_THRI);
	assert_int_equal(line(f), 1);
	assert_int_equal(in(f, UART_IIR), UART_IIR_THRI);
	assert_int_equal(line(f), 0); /* reading it was the acknowledgement */
	assert_int_equal(in(f, UART_IIR), UART_IIR_NO_INT);
	out(f, UART_TX, 'x');
	assert_int_equal(line(f), 1);
	out(f, UART_IER, 0);
	assert_int_equal(line(f), 0);
	/* How Linux finds out that it works: off and on again interrupts anew. */
	out(f, UART_IER, UART_IER_THRI);
	assert_int_equal(in(f, UART_IIR), UART_IIR_THRI);
	fake_vm_free(f);
}

static void loopback_loops(void **state)
{
	struct fake_vm *f = world();

	(void)state;
	/* What Linux's autoconfig does (8250_port.c). */
	out(f, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	assert_int_equal(in(f, UART_MSR) & 0xf0, UART_MSR_DCD | UART_MSR_CTS);
	out(f, UART_TX, 'l');
	assert_int_equal(f->output_len, 0);
	assert_int_equal(in(f, UART_RX), 'l');
	fake_type(f, "typed");
	assert_int_equal(in(f, UART_LSR) & UART_LSR_DR, 0); /* the line is cut off */
	out(f, UART_TX, '1');
	out(f, UART_TX, '2'); /* nobody took the first */
	assert_int_equal(in(f, UART_LSR) & UART_LSR_OE, UART_LSR_OE);
	assert_int_equal(in(f, UART_LSR) & UART_LSR_OE, 0);
	assert_int_equal(in(f, UART_RX), '1');
	out(f, UART_MCR, 0);
	assert_int_equal(in(f, UART_RX), 't');
	assert_int_equal(in(f, UART_MSR) & 0xf0, UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS);
	fake_vm_free(f);
}

static void line_changes_interrupt(void **state)
{
	struct fake_vm *f = world();

	(void)state;
	in(f, UART_MSR);
	out(f, UART_IER, UART_IER_MSI);
	assert_int_equal(line(f), 0);
	out(f, UART_MCR, UART_MCR_LOOP);
	assert_int_equal(line(f), 1);
	assert_int_equal(in(f, UART_IIR), UART_IIR_MSI);
	assert_int_equal(in(f, UART_MSR), UART_MSR_DDCD | UART_MSR_DDSR | UART_MSR_DCTS);
	assert_int_equal(line(f), 0);
	fake_vm_free(f);
}

static void any_access_is_survived(void **state)
{
	struct fake_vm *f = world();
	uint32_t seed = 1;

	(void)state;
	for (unsigned i = 0; i < 200000; i++) {
		unsigned size = 1u << (seed >> 8 & 3);
		uint64_t port = LAYOUT_PORT_COM1 - 4 + (seed >> 12 & 15);

		seed = seed * 1664525 + 1013904223;
		if (i % 1000 == 0 && f->input_len < 1000)
			fake_type(f, "0123456789abcdef0123456789");
		if (seed >> 31)
			fake_write(f, BUS_PIO, port, size, seed);
		else
			fake_read(f, BUS_PIO, port, size);
		f->output_len = 0;
	}
	/* And it still works. */
	out(f, UART_LCR, 0);
	out(f, UART_MCR, 0);
	f->output_len = 0;
	out(f, UART_TX, 'x');
	assert_int_equal(f->output[0], 'x');
	fake_vm_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(output_is_printed),
	    cmocka_unit_test(divisor_is_apart_from_data),
	    cmocka_unit_test(input_is_never_lost),
	    cmocka_unit_test(without_fifo_a_byte_at_a_time),
	    cmocka_unit_test(received_data_interrupts),
	    cmocka_unit_test(an_empty_transmitter_interrupts),
	    cmocka_unit_test(loopback_loops),
	    cmocka_unit_test(line_changes_interrupt),
	    cmocka_unit_test(any_access_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
