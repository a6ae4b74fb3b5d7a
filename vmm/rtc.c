// SPDX-License-Identifier: ISC
/*
 * The clock and the 128 bytes of NVRAM of a PC (Motorola MC146818A data sheet,
 * and what PCs added: a century at 0x32, memory sizes).
 *
 * Time is the host's, in UTC, plus what the guest set. It is worked out at each read;
 * so that a guest never sees it half changed, "update in progress" stands for
 * the last 244 us of each second, as in the real one: who sees it clear has that
 * long to read. While SET is on, the guest's own values stand in the registers.
 *
 * Flags of alarm, update and periodic interrupts are true when polled (register C);
 * the interrupt itself is not raised.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vmm/devices.h"
#include "vmm/layout.h"
#include "vmm/state.h"
#include "util/cleanup.h"

enum {
	REG_SECONDS = 0x00,
	REG_SECONDS_ALARM,
	REG_MINUTES,
	REG_MINUTES_ALARM,
	REG_HOURS,
	REG_HOURS_ALARM,
	REG_WEEKDAY,
	REG_DAY,
	REG_MONTH,
	REG_YEAR,
	REG_A,
	REG_B,
	REG_C,
	REG_D,
	REG_BASE_LOW = 0x15, /* KiB below 1 MiB */
	REG_EXT_LOW = 0x17,  /* KiB above 1 MiB, at most 64 MiB */
	REG_EXT2_LOW = 0x30, /* the same again */
	REG_CENTURY = 0x32,
	REG_HIGH_LOW = 0x34, /* 64 KiB above 16 MiB, below 4 GiB */
	NVRAM_BYTES = 128,
};

#define A_UIP	     0x80
#define A_DIVIDER_ON 0x20 /* a time base of 32768 Hz, running */
#define A_RATE_1024  0x06
#define B_SET	     0x80
#define B_BINARY     0x04
#define B_24H	     0x02
#define C_UF	     0x10
#define C_AF	     0x20
#define C_PF	     0x40
#define D_VALID	     0x80 /* the battery is good */
#define PM	     0x80 /* in the hour of a 12-hour clock */
#define ALARM_ANY    0xc0 /* "any" in an alarm register: both high bits */

#define OFFSET_MAX_S (1ll << 40) /* more than its registers can tell */
#define UIP_NS	     (1000000000l - 244000)

struct rtc {
	struct device dev;
	pthread_mutex_t lock; /* guards all that follows */
	uint8_t index;
	uint8_t nvram[NVRAM_BYTES]; /* with the time registers as of the last SET */
	int64_t offset_s;	    /* guest's time less host's */
	int64_t seen_s;		    /* the host's second when C was last read */
};

static struct timespec host_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now;
}

/* --- numbers as register B wants them: under lock ------------------------------------------------
 */

static uint8_t encode(const struct rtc *rtc, int value)
{
	if (rtc->nvram[REG_B] & B_BINARY)
		return (uint8_t)value;
	return (uint8_t)(value / 10 << 4 | value % 10);
}

static int decode(const struct rtc *rtc, uint8_t value)
{
	if (rtc->nvram[REG_B] & B_BINARY)
		return value;
	return (value >> 4) * 10 + (value & 15);
}

static uint8_t encode_hour(const struct rtc *rtc, int hour)
{
	if (rtc->nvram[REG_B] & B_24H)
		return encode(rtc, hour);
	return encode(rtc, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? PM : 0);
}

static int decode_hour(const struct rtc *rtc, uint8_t value)
{
	if (rtc->nvram[REG_B] & B_24H)
		return decode(rtc, value);
	return decode(rtc, value & ~PM) % 12 + (value & PM ? 12 : 0);
}

/* Puts a moment into the registers. */
static void show_time(struct rtc *rtc, int64_t seconds)
{
	time_t t = (time_t)seconds;
	struct tm tm;
	int year; /* as far as the registers can tell it */

	if (!gmtime_r(&t, &tm))
		return;
	year = ((tm.tm_year + 1900) % 10000 + 10000) % 10000;
	rtc->nvram[REG_SECONDS] = encode(rtc, tm.tm_sec > 59 ? 59 : tm.tm_sec);
	rtc->nvram[REG_MINUTES] = encode(rtc, tm.tm_min);
	rtc->nvram[REG_HOURS] = encode_hour(rtc, tm.tm_hour);
	rtc->nvram[REG_WEEKDAY] = encode(rtc, tm.tm_wday + 1);
	rtc->nvram[REG_DAY] = encode(rtc, tm.tm_mday);
	rtc->nvram[REG_MONTH] = encode(rtc, tm.tm_mon + 1);
	rtc->nvram[REG_YEAR] = encode(rtc, year % 100);
	rtc->nvram[REG_CENTURY] = encode(rtc, year / 100);
}

/* The moment that stands in the registers; whatever the guest wrote is some moment. */
static int64_t read_time(const struct rtc *rtc)
{
	struct tm tm = {
	    .tm_sec = decode(rtc, rtc->nvram[REG_SECONDS]),
	    .tm_min = decode(rtc, rtc->nvram[REG_MINUTES]),
	    .tm_hour = decode_hour(rtc, rtc->nvram[REG_HOURS]),
	    .tm_mday = decode(rtc, rtc->nvram[REG_DAY]),
	    .tm_mon = decode(rtc, rtc->nvram[REG_MONTH]) - 1,
	    .tm_year = decode(rtc, rtc->nvram[REG_CENTURY]) * 100 +
		       decode(rtc, rtc->nvram[REG_YEAR]) - 1900,
	};

	return (int64_t)timegm(&tm);
}

static void update(struct rtc *rtc)
{
	if (!(rtc->nvram[REG_B] & B_SET))
		show_time(rtc, host_now().tv_sec + rtc->offset_s);
}

/* --- registers: under lock
 * ------------------------------------------------------------------------- */

static uint8_t read_a(const struct rtc *rtc)
{
	bool updating = !(rtc->nvram[REG_B] & B_SET) && host_now().tv_nsec >= UIP_NS;

	return (uint8_t)((rtc->nvram[REG_A] & ~A_UIP) | (updating ? A_UIP : 0));
}

static bool alarm_matches(const struct rtc *rtc)
{
	for (unsigned reg = REG_SECONDS; reg <= REG_HOURS; reg += 2) {
		uint8_t alarm = rtc->nvram[reg + 1];

		if ((alarm & ALARM_ANY) != ALARM_ANY && alarm != rtc->nvram[reg])
			return false;
	}
	return true;
}

/* Reading it clears it. */
static uint8_t read_c(struct rtc *rtc)
{
	int64_t now = host_now().tv_sec;
	uint8_t c = rtc->nvram[REG_A] & 15 ? C_PF : 0;

	if (now != rtc->seen_s && !(rtc->nvram[REG_B] & B_SET)) {
		update(rtc);
		c |= C_UF | (alarm_matches(rtc) ? C_AF : 0);
	}
	rtc->seen_s = now;
	return c;
}

static bool is_time(unsigned reg)
{
	return (reg <= REG_YEAR && reg != REG_SECONDS_ALARM && reg != REG_MINUTES_ALARM &&
		reg != REG_HOURS_ALARM) ||
	       reg == REG_CENTURY;
}

static uint8_t read_reg(struct rtc *rtc, unsigned reg)
{
	if (is_time(reg))
		update(rtc);
	switch (reg) {
	case REG_A:
		return read_a(rtc);
	case REG_C:
		return read_c(rtc);
	case REG_D:
		return D_VALID;
	default:
		return rtc->nvram[reg];
	}
}

static void write_reg(struct rtc *rtc, unsigned reg, uint8_t value)
{
	bool was_set = rtc->nvram[REG_B] & B_SET;

	if (reg == REG_C || reg == REG_D)
		return;
	if (reg == REG_B && !was_set)
		update(rtc); /* the last moment before it stands still, as the old B wants it */
	else if (is_time(reg))
		update(rtc);
	/* In its old encoding: a B that changes both gives up the values (data sheet, "SET"). */
	if (reg == REG_B && was_set && !(value & B_SET)) {
		rtc->nvram[REG_B] = value;
		rtc->offset_s = read_time(rtc) - host_now().tv_sec;
		return;
	}
	rtc->nvram[reg] = reg == REG_A ? value & ~A_UIP : value;
	if (is_time(reg) && !was_set) /* set while it runs: from here on */
		rtc->offset_s = read_time(rtc) - host_now().tv_sec;
}

/* --- the bus ---------------------------------------------------------------------------------- */

static uint64_t rtc_read(void *opaque, uint64_t offset, unsigned size)
{
	struct rtc *rtc = opaque;
	uint64_t value = 0;

	LOCK_SCOPE(&rtc->lock);
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)(offset + i == 1 ? read_reg(rtc, rtc->index) : 0xff) << 8 * i;
	return value;
}

static void rtc_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct rtc *rtc = opaque;

	LOCK_SCOPE(&rtc->lock);
	for (unsigned i = 0; i < size; i++) {
		uint8_t byte = (uint8_t)(value >> 8 * i);

		if (offset + i == 0)
			rtc->index = byte % NVRAM_BYTES; /* bit 7 masks NMIs: there are none */
		else
			write_reg(rtc, rtc->index, byte);
	}
}

static const struct bus_ops rtc_bus_ops = {rtc_read, rtc_write};

static void put16(struct rtc *rtc, unsigned reg, uint64_t value)
{
	if (value > 0xffff)
		value = 0xffff;
	rtc->nvram[reg] = (uint8_t)value;
	rtc->nvram[reg + 1] = (uint8_t)(value >> 8);
}

/* Memory sizes, where loaders without a memory map look for them. */
static void put_memory(struct rtc *rtc, uint64_t low_ram_end)
{
	uint64_t ext = low_ram_end > 1 << 20 ? (low_ram_end - (1 << 20)) >> 10 : 0;
	uint64_t high = low_ram_end > 16 << 20 ? (low_ram_end - (16 << 20)) >> 16 : 0;

	put16(rtc, REG_BASE_LOW, 640);
	put16(rtc, REG_EXT_LOW, ext);
	put16(rtc, REG_EXT2_LOW, ext);
	put16(rtc, REG_HIGH_LOW, high);
}

/* Its time is the host's all the while. */
static void rtc_state(struct device *dev, struct state *st)
{
	struct rtc *rtc = (struct rtc *)dev;

	LOCK_SCOPE(&rtc->lock);
	state_u8(st, &rtc->index);
	state_bytes(st, rtc->nvram, sizeof(rtc->nvram));
	state_i64(st, &rtc->offset_s);
	state_i64(st, &rtc->seen_s);
	if (rtc->index >= NVRAM_BYTES || rtc->offset_s > OFFSET_MAX_S ||
	    rtc->offset_s < -OFFSET_MAX_S)
		state_fail(st, -EINVAL, "its time");
}

static void rtc_destroy(struct device *dev)
{
	struct rtc *rtc = (struct rtc *)dev;

	bus_remove(dev->vm->bus, BUS_PIO, LAYOUT_PORT_RTC, false);
	pthread_mutex_destroy(&rtc->lock);
	free(rtc);
}

static int rtc_create(struct vm *vm, struct err *err)
{
	struct rtc *rtc = calloc(1, sizeof(*rtc));
	int ret;

	if (!rtc)
		return err_set(err, -ENOMEM, "no memory");
	rtc->nvram[REG_A] = A_DIVIDER_ON | A_RATE_1024;
	rtc->nvram[REG_B] = B_24H;
	rtc->seen_s = host_now().tv_sec;
	put_memory(rtc, vm->mem.regions[0].bytes);
	pthread_mutex_init(&rtc->lock, NULL);
	device_add(vm, &rtc->dev, &rtc_device, "rtc");
	ret = bus_add(vm->bus, BUS_PIO, LAYOUT_PORT_RTC, 2, &rtc_bus_ops, rtc);
	if (ret < 0)
		return err_set(err, ret, "no room for the clock");
	return 0;
}

const struct device_ops rtc_device = {
    .name = "rtc",
    .create = rtc_create,
    .destroy = rtc_destroy,
    .state_version = 1,
    .state = rtc_state,
};
