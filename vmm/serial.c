// SPDX-License-Identifier: ISC
/*
 * COM1: a 16550A (National Semiconductor PC16550D data sheet) without a line:
 * what is written is printed at once, whatever the baud rate, so the transmitter is
 * always empty, and the modem's lines say that somebody is there.
 *
 * Input waits in the console until there is room in the FIFO; so none is lost
 * however slowly the guest reads, and overruns do not happen (except in
 * loopback, where the guest overruns itself).
 */
#include <errno.h>
#include <linux/serial_reg.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/console.h"
#include "vmm/devices.h"
#include "vmm/irq.h"
#include "vmm/layout.h"
#include "vmm/state.h"
#include "util/cleanup.h"

#define FIFO_BYTES  16
#define IIR_FIFO_ON 0xc0

#define LSR_IDLE  (UART_LSR_THRE | UART_LSR_TEMT)
#define MSR_LINES (UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS)

struct serial {
	struct device dev;
	pthread_mutex_t lock; /* guards all that follows */
	uint8_t ier, lcr, mcr, scr, dll, dlm;
	uint8_t msr; /* lines in the high half, what changed in the low one */
	bool fifo_on, overrun;
	unsigned trigger; /* bytes in the FIFO that are worth an interrupt */
	bool thr_empty_pending;
	uint8_t fifo[FIFO_BYTES];
	unsigned head, n;
	bool irq_level;
};

static unsigned capacity(const struct serial *s)
{
	return s->fifo_on ? FIFO_BYTES : 1;
}

/* --- interrupts (§8.5): all these under lock ---------------------------------------------------
 */

/* What the interrupt identification says, the most urgent first. */
static uint8_t identify(const struct serial *s)
{
	if (s->ier & UART_IER_RLSI && s->overrun)
		return UART_IIR_RLSI;
	if (s->ier & UART_IER_RDI && s->n > 0) {
		/* Below the trigger it comes after a pause on the line: ours is always over. */
		return s->fifo_on && s->n < s->trigger ? UART_IIR_RX_TIMEOUT : UART_IIR_RDI;
	}
	if (s->ier & UART_IER_THRI && s->thr_empty_pending)
		return UART_IIR_THRI;
	if (s->ier & UART_IER_MSI && s->msr & UART_MSR_ANY_DELTA)
		return UART_IIR_MSI;
	return UART_IIR_NO_INT;
}

static void update_irq(struct serial *s)
{
	bool level = identify(s) != UART_IIR_NO_INT;

	if (level == s->irq_level)
		return;
	s->irq_level = level;
	irq_line_set(s->dev.vm, LAYOUT_IRQ_COM1, level);
}

/* --- data: under lock ------------------------------------------------------------------------- */

static void fill_fifo(struct serial *s)
{
	uint8_t bytes[FIFO_BYTES];
	size_t n;

	/* In loopback the line is cut off. */
	if (s->mcr & UART_MCR_LOOP || s->n >= capacity(s))
		return;
	n = console_input(s->dev.vm->console, bytes, capacity(s) - s->n);
	for (size_t i = 0; i < n; i++)
		s->fifo[(s->head + s->n++) % FIFO_BYTES] = bytes[i];
}

static uint8_t receive(struct serial *s)
{
	uint8_t value = 0;

	if (s->n > 0) {
		value = s->fifo[s->head];
		s->head = (s->head + 1) % FIFO_BYTES;
		s->n--;
	}
	fill_fifo(s);
	return value;
}

static void transmit(struct serial *s, uint8_t value)
{
	if (!(s->mcr & UART_MCR_LOOP))
		console_output(s->dev.vm->console, &value, 1);
	else if (s->n < capacity(s))
		s->fifo[(s->head + s->n++) % FIFO_BYTES] = value;
	else
		s->overrun = true;
	s->thr_empty_pending = true;
}

static void clear_fifo(struct serial *s)
{
	s->head = s->n = 0;
}

/* --- registers -------------------------------------------------------------------------------- */

/* The modem's lines: ours in loopback (§8.6.7), else as if a terminal were there. */
static void update_lines(struct serial *s)
{
	static const struct {
		uint8_t mcr, line, delta;
	} loop[] = {
	    {UART_MCR_RTS, UART_MSR_CTS, UART_MSR_DCTS},
	    {UART_MCR_DTR, UART_MSR_DSR, UART_MSR_DDSR},
	    {UART_MCR_OUT1, UART_MSR_RI, UART_MSR_TERI},
	    {UART_MCR_OUT2, UART_MSR_DCD, UART_MSR_DDCD},
	};
	uint8_t lines = MSR_LINES;

	if (s->mcr & UART_MCR_LOOP) {
		lines = 0;
		for (unsigned i = 0; i < nitems(loop); i++)
			if (s->mcr & loop[i].mcr)
				lines |= loop[i].line;
	}
	for (unsigned i = 0; i < nitems(loop); i++) {
		bool was = s->msr & loop[i].line, is = lines & loop[i].line;

		/* The ring indicator tells only of its end. */
		if (was != is && (loop[i].line != UART_MSR_RI || was))
			s->msr |= loop[i].delta;
	}
	s->msr = (uint8_t)((s->msr & UART_MSR_ANY_DELTA) | lines);
}

static void write_fcr(struct serial *s, uint8_t value)
{
	static const uint8_t triggers[] = {1, 4, 8, 14};
	bool on = value & UART_FCR_ENABLE_FIFO;

	if (on != s->fifo_on || value & UART_FCR_CLEAR_RCVR)
		clear_fifo(s);
	s->fifo_on = on;
	s->trigger = triggers[value >> 6];
	fill_fifo(s);
}

static uint8_t read_iir(struct serial *s)
{
	uint8_t iir = identify(s);

	if (iir == UART_IIR_THRI)
		s->thr_empty_pending = false; /* reading it is the acknowledgement */
	return iir | (s->fifo_on ? IIR_FIFO_ON : 0);
}

static uint8_t read_lsr(struct serial *s)
{
	uint8_t lsr = LSR_IDLE | (s->n > 0 ? UART_LSR_DR : 0) | (s->overrun ? UART_LSR_OE : 0);

	s->overrun = false;
	return lsr;
}

static uint8_t read_msr(struct serial *s)
{
	uint8_t msr = s->msr;

	s->msr &= (uint8_t)~UART_MSR_ANY_DELTA;
	return msr;
}

static uint8_t read_reg(struct serial *s, unsigned reg)
{
	bool dlab = s->lcr & UART_LCR_DLAB;

	switch (reg) {
	case UART_RX:
		return dlab ? s->dll : receive(s);
	case UART_IER:
		return dlab ? s->dlm : s->ier;
	case UART_IIR:
		return read_iir(s);
	case UART_LCR:
		return s->lcr;
	case UART_MCR:
		return s->mcr;
	case UART_LSR:
		return read_lsr(s);
	case UART_MSR:
		return read_msr(s);
	default:
		return s->scr;
	}
}

static void write_ier(struct serial *s, uint8_t value)
{
	/* Enabling it while the transmitter is empty interrupts at once. */
	if (value & UART_IER_THRI && !(s->ier & UART_IER_THRI))
		s->thr_empty_pending = true;
	s->ier = value & 0xf;
}

static void write_mcr(struct serial *s, uint8_t value)
{
	s->mcr = value & 0x1f;
	update_lines(s);
	fill_fifo(s);
}

static void write_reg(struct serial *s, unsigned reg, uint8_t value)
{
	bool dlab = s->lcr & UART_LCR_DLAB;

	switch (reg) {
	case UART_TX:
		if (dlab)
			s->dll = value;
		else
			transmit(s, value);
		break;
	case UART_IER:
		if (dlab)
			s->dlm = value;
		else
			write_ier(s, value);
		break;
	case UART_FCR:
		write_fcr(s, value);
		break;
	case UART_LCR:
		s->lcr = value;
		break;
	case UART_MCR:
		write_mcr(s, value);
		break;
	case UART_SCR:
		s->scr = value;
		break;
	default: /* line and modem status are read-only */
		break;
	}
}

/* --- the bus ---------------------------------------------------------------------------------- */

/* Wider accesses are so many of a byte each. */
static uint64_t serial_read(void *opaque, uint64_t offset, unsigned size)
{
	struct serial *s = opaque;
	uint64_t value = 0;

	LOCK_SCOPE(&s->lock);
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)read_reg(s, (unsigned)offset + i) << 8 * i;
	update_irq(s);
	return value;
}

static void serial_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct serial *s = opaque;

	LOCK_SCOPE(&s->lock);
	for (unsigned i = 0; i < size; i++)
		write_reg(s, (unsigned)offset + i, (uint8_t)(value >> 8 * i));
	update_irq(s);
}

static const struct bus_ops serial_bus_ops = {serial_read, serial_write};

static void input_came(void *arg)
{
	struct serial *s = arg;

	LOCK_SCOPE(&s->lock);
	fill_fifo(s);
	update_irq(s);
}

/* The line's level is KVM's as well: it is loaded with the chips. */
static void serial_state(struct device *dev, struct state *st)
{
	struct serial *s = (struct serial *)dev;
	uint32_t n;

	LOCK_SCOPE(&s->lock);
	state_u8(st, &s->ier);
	state_u8(st, &s->lcr);
	state_u8(st, &s->mcr);
	state_u8(st, &s->scr);
	state_u8(st, &s->dll);
	state_u8(st, &s->dlm);
	state_u8(st, &s->msr);
	state_bool(st, &s->fifo_on);
	state_bool(st, &s->overrun);
	state_bool(st, &s->thr_empty_pending);
	state_bool(st, &s->irq_level);
	state_u32(st, &s->trigger);
	for (unsigned i = 0; s->head > 0 && i < FIFO_BYTES; i++) {
		/* Turned so that it begins at 0. */
		uint8_t first = s->fifo[0];

		memmove(s->fifo, s->fifo + 1, FIFO_BYTES - 1);
		s->fifo[FIFO_BYTES - 1] = first;
		s->head--;
	}
	n = s->n;
	state_blob(st, s->fifo, &n, FIFO_BYTES);
	s->n = n;
	s->head = 0;
	if (s->trigger < 1 || s->trigger > FIFO_BYTES || n > capacity(s))
		state_fail(st, -EINVAL, "its FIFO");
}

static void serial_destroy(struct device *dev)
{
	struct serial *s = (struct serial *)dev;

	console_set_reader(dev->vm->console, NULL, NULL);
	bus_remove(dev->vm->bus, BUS_PIO, LAYOUT_PORT_COM1, false);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static int serial_create(struct vm *vm, struct err *err)
{
	struct serial *s = calloc(1, sizeof(*s));
	int ret;

	if (!s)
		return err_set(err, -ENOMEM, "no memory");
	s->trigger = 1;
	s->msr = MSR_LINES;
	s->dll = 1; /* 115200 baud */
	s->thr_empty_pending = false;
	pthread_mutex_init(&s->lock, NULL);
	device_add(vm, &s->dev, &serial_device, "serial");
	ret = bus_add(vm->bus, BUS_PIO, LAYOUT_PORT_COM1, 8, &serial_bus_ops, s);
	if (ret < 0)
		return err_set(err, ret, "no room for the serial port");
	console_set_reader(vm->console, input_came, s);
	input_came(s); /* what was typed before */
	return 0;
}

const struct device_ops serial_device = {
    .name = "serial",
    .create = serial_create,
    .destroy = serial_destroy,
    .state_version = 1,
    .state = serial_state,
};
