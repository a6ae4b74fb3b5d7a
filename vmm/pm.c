// SPDX-License-Identifier: ISC
/*
 * ACPI's fixed hardware (ACPI 6.4 §4.8): PM1 event and control registers, the
 * power management timer, and the block of general purpose events. Always in ACPI mode. The
 * reset register (port 0xcf9) is in the middle of the PCI bus's ports and stands in pci.c.
 *
 * The timer has 32 bits and runs from power-on by the host's monotonic clock. Its carry
 * (TMR_STS) is worked out when somebody looks; nobody is interrupted for it.
 *
 * The events of GPE0 are levels (§4.8.4.1): a status bit is set as long as its source is, and
 * writing a one to it changes nothing. The tables name them _Lxx.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "vmm/devices.h"
#include "vmm/irq.h"
#include "vmm/layout.h"
#include "vmm/state.h"
#include "util/cleanup.h"

#define PM_TIMER_HZ 3579545ull
#define AGE_MAX_NS  (1ull << 62) /* of the timer: a century and more */
#define GPE_ENABLE  2		 /* offset in the block: half of its length (§4.8.4.1) */

/* PM1 status and enable */
#define PM1_TMR	    (1u << 0)
#define PM1_BM	    (1u << 4)
#define PM1_GBL	    (1u << 5)
#define PM1_PWRBTN  (1u << 8)
#define PM1_SLPBTN  (1u << 9)
#define PM1_RTC	    (1u << 10)
#define PM1_WAK	    (1u << 15)
#define PM1_STS_ALL (PM1_TMR | PM1_BM | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC | PM1_WAK)
#define PM1_EN_ALL  (PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC)

/* PM1 control */
#define CNT_SCI_EN	 (1u << 0)
#define CNT_SLP_TYP(cnt) ((cnt) >> 10 & 7)
#define CNT_SLP_EN	 (1u << 13)

struct pm {
	struct device dev;
	struct timespec power_on;
	uint64_t grown_ns;    /* how far the timer was then */
	pthread_mutex_t lock; /* guards all that follows */
	uint16_t status, enable, control;
	uint64_t carries; /* of the timer's highest bit, seen so far */
	uint16_t gpe_status, gpe_enable;
	uint16_t gpe_used; /* was ever enabled */
	bool sci;
};

static uint64_t timer_ns(const struct pm *pm)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)(now.tv_sec - pm->power_on.tv_sec) * 1000000000ull +
	       (uint64_t)now.tv_nsec - (uint64_t)pm->power_on.tv_nsec + pm->grown_ns;
}

static uint64_t timer_ticks(const struct pm *pm)
{
	return (uint64_t)((unsigned __int128)timer_ns(pm) * PM_TIMER_HZ / 1000000000ull);
}

/* --- PM1 events: under lock ------------------------------------------------------------------- */

static void update_carry(struct pm *pm)
{
	uint64_t carries = timer_ticks(pm) >> 31;

	if (carries != pm->carries)
		pm->status |= PM1_TMR;
	pm->carries = carries;
}

static void update_sci(struct pm *pm)
{
	bool level = pm->status & pm->enable & PM1_EN_ALL || pm->gpe_status & pm->gpe_enable;

	if (level == pm->sci)
		return;
	pm->sci = level;
	irq_line_set(pm->dev.vm, LAYOUT_IRQ_SCI, level);
}

static uint8_t event_byte(struct pm *pm, unsigned at)
{
	uint32_t both = pm->status | (uint32_t)pm->enable << 16;

	return (uint8_t)(both >> 8 * at);
}

static uint64_t event_read(void *opaque, uint64_t offset, unsigned size)
{
	struct pm *pm = opaque;
	uint64_t value = 0;

	LOCK_SCOPE(&pm->lock);
	update_carry(pm);
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)event_byte(pm, (unsigned)offset + i) << 8 * i;
	update_sci(pm);
	return value;
}

/* A byte at a time: status bits go by writing ones. */
static void event_write_byte(struct pm *pm, unsigned at, uint8_t value)
{
	unsigned shift = 8 * (at & 1);

	if (at < 2)
		pm->status &= (uint16_t) ~((unsigned)value << shift);
	else
		pm->enable =
		    (uint16_t)(((pm->enable & ~(0xffu << shift)) | (unsigned)value << shift) &
			       PM1_EN_ALL);
}

static void event_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct pm *pm = opaque;

	LOCK_SCOPE(&pm->lock);
	update_carry(pm);
	for (unsigned i = 0; i < size; i++)
		event_write_byte(pm, (unsigned)offset + i, (uint8_t)(value >> 8 * i));
	update_sci(pm);
}

/* --- PM1 control ------------------------------------------------------------------------------ */

static uint64_t control_read(void *opaque, uint64_t offset, unsigned size)
{
	struct pm *pm = opaque;

	(void)size;
	LOCK_SCOPE(&pm->lock);
	return (unsigned)(pm->control | CNT_SCI_EN) >> 8 * offset;
}

static void control_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct pm *pm = opaque;
	unsigned mask = (size >= 2 ? 0xffffu : 0xffu) << 8 * offset, written;

	LOCK_SCOPE(&pm->lock);
	written = (pm->control & ~mask) | ((unsigned)(value << 8 * offset) & mask);
	pm->control = (uint16_t)(written & ~CNT_SLP_EN); /* that one always reads 0 */
	/* Other sleep types are none that the tables offer. */
	if (written & CNT_SLP_EN && CNT_SLP_TYP(written) == LAYOUT_SLP_S5)
		vm_end(pm->dev.vm, VM_END_POWEROFF, "the guest switched itself off");
}

/* --- timer and GPE block ---------------------------------------------------------------------- */

static uint64_t timer_read(void *opaque, uint64_t offset, unsigned size)
{
	(void)size;
	return (uint64_t)(uint32_t)timer_ticks(opaque) >> 8 * offset;
}

static void timer_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	(void)opaque, (void)offset, (void)size, (void)value;
}

/* Two bytes of status and two of enable. */
static uint64_t gpe_read(void *opaque, uint64_t offset, unsigned size)
{
	struct pm *pm = opaque;
	uint32_t both;

	(void)size;
	LOCK_SCOPE(&pm->lock);
	both = pm->gpe_status | (uint32_t)pm->gpe_enable << 16;
	return both >> 8 * offset;
}

static void gpe_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct pm *pm = opaque;

	LOCK_SCOPE(&pm->lock);
	for (unsigned i = 0; i < size; i++) {
		unsigned shift = 8 * ((unsigned)offset + i - GPE_ENABLE);

		if (offset + i < GPE_ENABLE)
			continue;
		pm->gpe_enable = (uint16_t)((pm->gpe_enable & ~(0xffu << shift)) |
					    (uint8_t)(value >> 8 * i) << shift);
	}
	pm->gpe_used |= pm->gpe_enable;
	update_sci(pm);
}

void pm_gpe_set(struct device *dev, unsigned gpe, bool level)
{
	struct pm *pm = (struct pm *)dev;

	LOCK_SCOPE(&pm->lock);
	if (level)
		pm->gpe_status |= (uint16_t)(1u << gpe);
	else
		pm->gpe_status &= (uint16_t) ~(1u << gpe);
	update_sci(pm);
}

bool pm_gpe_used(struct device *dev, unsigned gpe)
{
	struct pm *pm = (struct pm *)dev;

	LOCK_SCOPE(&pm->lock);
	return pm->gpe_used >> gpe & 1;
}

/* --- device ----------------------------------------------------------------------------------- */

static const struct {
	uint16_t port, bytes;
	struct bus_ops ops;
} blocks[] = {
    {LAYOUT_PORT_PM_EVT, 4, {event_read, event_write}},
    {LAYOUT_PORT_PM_CNT, 2, {control_read, control_write}},
    {LAYOUT_PORT_PM_TMR, 4, {timer_read, timer_write}},
    {LAYOUT_PORT_GPE0, 4, {gpe_read, gpe_write}},
};

static void pm_power_button(struct device *dev)
{
	struct pm *pm = (struct pm *)dev;

	LOCK_SCOPE(&pm->lock);
	pm->status |= PM1_PWRBTN;
	update_sci(pm);
}

/* The timer goes on where it was: from a moment of this host's clock when it would have begun. */
static void pm_state(struct device *dev, struct state *st)
{
	struct pm *pm = (struct pm *)dev;
	uint64_t age_ns;

	LOCK_SCOPE(&pm->lock);
	age_ns = timer_ns(pm);
	state_u64(st, &age_ns);
	state_u16(st, &pm->status);
	state_u16(st, &pm->enable);
	state_u16(st, &pm->control);
	state_u64(st, &pm->carries);
	state_u16(st, &pm->gpe_status);
	state_u16(st, &pm->gpe_enable);
	state_u16(st, &pm->gpe_used);
	state_bool(st, &pm->sci);
	if (!state_loading(st))
		return;
	if (age_ns > AGE_MAX_NS)
		state_fail(st, -EINVAL, "its timer");
	pm->grown_ns = age_ns - (timer_ns(pm) - pm->grown_ns);
}

static void pm_destroy(struct device *dev)
{
	struct pm *pm = (struct pm *)dev;

	for (unsigned i = 0; i < nitems(blocks); i++)
		bus_remove(dev->vm->bus, BUS_PIO, blocks[i].port, false);
	pthread_mutex_destroy(&pm->lock);
	free(pm);
}

static int pm_create(struct vm *vm, struct err *err)
{
	struct pm *pm = calloc(1, sizeof(*pm));

	if (!pm)
		return err_set(err, -ENOMEM, "no memory");
	clock_gettime(CLOCK_MONOTONIC, &pm->power_on);
	pthread_mutex_init(&pm->lock, NULL);
	device_add(vm, &pm->dev, &pm_device, "pm");
	for (unsigned i = 0; i < nitems(blocks); i++) {
		int ret =
		    bus_add(vm->bus, BUS_PIO, blocks[i].port, blocks[i].bytes, &blocks[i].ops, pm);

		if (ret < 0)
			return err_set(err, ret, "no room for power management");
	}
	return 0;
}

const struct device_ops pm_device = {
    .name = "pm",
    .create = pm_create,
    .destroy = pm_destroy,
    .power_button = pm_power_button,
    .state_version = 1,
    .state = pm_state,
};
