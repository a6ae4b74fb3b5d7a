// SPDX-License-Identifier: ISC
/* Which frames a card passes on: modes, tables, VLANs. And token buckets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "net/bucket.h"
#include "net/filter.h"

#define S 1000000000ull

static const uint8_t own[NET_MAC] = {2, 0, 0, 0, 0, 1}, other[NET_MAC] = {2, 0, 0, 0, 0, 2},
		     group[NET_MAC] = {1, 0, 0x5e, 0, 0, 1},
		     everybody[NET_MAC] = {255, 255, 255, 255, 255, 255};

struct frame {
	uint8_t bytes[64];
};

static struct frame frame_to(const uint8_t *mac, int vlan)
{
	struct frame f = {{0}};

	memcpy(f.bytes, mac, NET_MAC);
	f.bytes[12] = vlan < 0 ? 8 : 0x81;
	if (vlan >= 0) {
		f.bytes[14] = (uint8_t)(vlan >> 8);
		f.bytes[15] = (uint8_t)vlan;
	}
	return f;
}

static bool wants(const struct net_filter *f, const uint8_t *mac, int vlan)
{
	struct frame frame = frame_to(mac, vlan);

	return net_filter_wants(f, frame.bytes, sizeof(frame.bytes));
}

static void test_own_address_groups_and_all(void **state)
{
	struct net_filter f;

	(void)state;
	net_filter_reset(&f, own);
	assert_true(wants(&f, own, -1));
	assert_true(wants(&f, everybody, -1));
	assert_true(wants(&f, group, -1));
	assert_false(wants(&f, other, -1));
}

static void test_modes(void **state)
{
	struct net_filter f;

	(void)state;
	net_filter_reset(&f, own);
	f.promiscuous = true;
	assert_true(wants(&f, other, -1));
	f.promiscuous = false;
	f.all_unicast = true;
	assert_true(wants(&f, other, -1));
	f.no_unicast = true;
	assert_false(wants(&f, own, -1));
	f.no_broadcast = true;
	assert_false(wants(&f, everybody, -1));
	f.all_multicast = false;
	assert_false(wants(&f, group, -1));
	net_macs_add(&f.multicast, group);
	assert_true(wants(&f, group, -1));
	f.no_multicast = true;
	assert_false(wants(&f, group, -1));
}

static void test_a_table_that_overflows_passes_all(void **state)
{
	struct net_filter f;

	(void)state;
	net_filter_reset(&f, own);
	net_macs_add(&f.unicast, other);
	assert_true(wants(&f, other, -1));
	for (unsigned i = 0; i <= NET_MACS_MAX; i++) {
		const uint8_t mac[NET_MAC] = {2, 1, 0, 0, (uint8_t)(i >> 8), (uint8_t)i};

		net_macs_add(&f.unicast, mac);
	}
	assert_true(wants(&f, (const uint8_t[]){2, 9, 9, 9, 9, 9}, -1));
}

static void test_vlans(void **state)
{
	struct net_filter f;

	(void)state;
	net_filter_reset(&f, own);
	assert_true(wants(&f, own, 7)); /* as long as none was named */
	net_filter_vlan(&f, 100, true);
	assert_true(wants(&f, own, 100));
	assert_true(wants(&f, own, 0x6000 | 100)); /* with a priority */
	assert_false(wants(&f, own, 7));
	assert_true(wants(&f, own, -1));
	assert_true(wants(&f, own, 0));
	net_filter_vlan(&f, 100, false);
	assert_false(wants(&f, own, 100));
	net_filter_vlan(&f, 4095, true);
	assert_true(wants(&f, own, 4095));
}

static void test_bucket_keeps_its_rate(void **state)
{
	struct net_bucket b;
	uint64_t now = 1000 * S, sent = 0, end = now + 10 * S, wait;

	(void)state;
	net_bucket_set(&b, 1000000, 50000, now);
	while (now < end) {
		wait = net_bucket_wait(&b, now);
		if (wait) {
			now += wait;
			continue;
		}
		net_bucket_take(&b, 1500);
		sent += 1500;
	}
	assert_in_range(sent, 10000000, 10000000 + 50000 + 1500);
}

static void test_bucket_extremes(void **state)
{
	struct net_bucket b;

	(void)state;
	net_bucket_set(&b, 0, 0, 5);
	net_bucket_take(&b, UINT64_MAX);
	assert_int_equal(net_bucket_wait(&b, 5), 0);
	net_bucket_set(&b, 1, 0, 5); /* the clock has just begun */
	assert_int_equal(net_bucket_wait(&b, 5), 0);
	net_bucket_take(&b, 1);
	assert_in_range(net_bucket_wait(&b, 5), S / 2, S);
	net_bucket_set(&b, 1, UINT64_MAX, 1000 * S);
	assert_int_equal(net_bucket_wait(&b, 1000 * S), 0);
	net_bucket_set(&b, UINT64_MAX, 1, 1000 * S);
	net_bucket_take(&b, UINT64_MAX);
	assert_in_range(net_bucket_wait(&b, 1000 * S), 1, S);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_own_address_groups_and_all),
	    cmocka_unit_test(test_modes),
	    cmocka_unit_test(test_a_table_that_overflows_passes_all),
	    cmocka_unit_test(test_vlans),
	    cmocka_unit_test(test_bucket_keeps_its_rate),
	    cmocka_unit_test(test_bucket_extremes),
	};

	return cmocka_run_group_tests_name("net: filter, bucket", tests, NULL, NULL);
}
