// SPDX-License-Identifier: ISC
/* Addresses that senders say are their own: what counts, and what does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "net/sender.h"
#include "util/cleanup.h"

static const uint8_t mac[6] = {0x52, 0x54, 0, 0, 0, 1};
static const uint8_t global6[16] = {0xfd, [15] = 7}, local6[16] = {0xfe, 0x80, [15] = 7};

static size_t arp(uint8_t *f, uint8_t op, const uint8_t ip[4])
{
	static const uint8_t head[] = {8, 6, 0, 1, 8, 0, 6, 4, 0};

	memset(f, 0, 60);
	memset(f, 0xff, 6);
	memcpy(f + 6, mac, 6);
	memcpy(f + 12, head, sizeof(head));
	f[21] = op;
	memcpy(f + 22, mac, 6);
	memcpy(f + 28, ip, 4);
	return 60;
}

static size_t nd(uint8_t *f, uint8_t type, const uint8_t from[16], const uint8_t target[16])
{
	memset(f, 0, 78);
	memcpy(f + 6, mac, 6);
	f[12] = 0x86;
	f[13] = 0xdd;
	f[14] = 0x60;
	f[20] = 58;
	f[21] = 255;
	memcpy(f + 22, from, 16);
	f[54] = type;
	memcpy(f + 62, target, 16);
	return 78;
}

static void arp_says_it(void **state)
{
	static const uint8_t ip[4] = {10, 0, 0, 5};
	struct net_sender s;
	uint8_t f[80];

	(void)state;
	for (uint8_t op = 1; op <= 2; op++) {
		size_t len = arp(f, op, ip);

		assert_true(net_sender_find(f, len, mac, &s));
		assert_int_equal(s.len, 4);
		assert_memory_equal(s.addr, ip, 4);
	}
}

static void what_is_not_its_own(void **state)
{
	static const uint8_t bad[][4] = {{0, 0, 0, 0},	 {0, 1, 2, 3},	       {127, 0, 0, 1},
					 {224, 0, 0, 1}, {255, 255, 255, 255}, {240, 0, 0, 1}};
	static const uint8_t ip[4] = {10, 0, 0, 5}, other[6] = {0x52, 0x54, 0, 0, 0, 2};
	struct net_sender s;
	uint8_t f[80];

	(void)state;
	for (size_t i = 0; i < nitems(bad); i++)
		assert_false(net_sender_find(f, arp(f, 1, bad[i]), mac, &s));
	arp(f, 3, ip); /* reverse ARP */
	assert_false(net_sender_find(f, 60, mac, &s));
	arp(f, 1, ip);
	memcpy(f + 22, other, 6); /* on behalf of another */
	assert_false(net_sender_find(f, 60, mac, &s));
	arp(f, 1, ip);
	assert_false(net_sender_find(f, 60, other, &s));
	arp(f, 1, ip);
	f[18] = 8; /* of other addresses */
	assert_false(net_sender_find(f, 60, mac, &s));
	arp(f, 1, ip);
	f[12] = 0x08;
	f[13] = 0x00; /* no ARP at all */
	assert_false(net_sender_find(f, 60, mac, &s));
}

static void neighbours_say_it(void **state)
{
	static const uint8_t none[16], all[16] = {0xff, 2, [15] = 1}, self[16] = {[15] = 1};
	struct net_sender s;
	uint8_t f[80];

	(void)state;
	assert_true(net_sender_find(f, nd(f, 135, local6, global6), mac, &s));
	assert_int_equal(s.len, 16);
	assert_memory_equal(s.addr, local6, 16);
	assert_true(net_sender_find(f, nd(f, 136, local6, global6), mac, &s));
	assert_memory_equal(s.addr, global6, 16);
	assert_true(net_sender_find(f, nd(f, 135, none, global6), mac, &s)); /* is it free? */
	assert_memory_equal(s.addr, global6, 16);
	assert_false(net_sender_find(f, nd(f, 133, local6, global6), mac, &s));
	assert_false(net_sender_find(f, nd(f, 136, local6, all), mac, &s));
	assert_false(net_sender_find(f, nd(f, 136, local6, none), mac, &s));
	assert_false(net_sender_find(f, nd(f, 136, local6, self), mac, &s));
	nd(f, 135, local6, global6);
	f[21] = 254; /* it was routed */
	assert_false(net_sender_find(f, 78, mac, &s));
	nd(f, 135, local6, global6);
	f[20] = 6;
	assert_false(net_sender_find(f, 78, mac, &s));
}

/* Of no frame more is looked at than there is: the heap's bytes behind it are not to be touched. */
static void short_ones(void **state)
{
	static const uint8_t ip[4] = {10, 0, 0, 5};
	struct net_sender s;
	uint8_t f[80];

	(void)state;
	for (size_t len = 0; len <= 78; len++)
		for (unsigned which = 0; which < 2; which++) {
			uint8_t *copy = malloc(len ? len : 1);
			size_t whole = which ? 78 : 42;

			if (which)
				nd(f, 135, local6, global6);
			else
				arp(f, 1, ip);
			memcpy(copy, f, len);
			assert_int_equal(net_sender_find(copy, len, mac, &s), len >= whole);
			free(copy);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(arp_says_it),
	    cmocka_unit_test(what_is_not_its_own),
	    cmocka_unit_test(neighbours_say_it),
	    cmocka_unit_test(short_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
