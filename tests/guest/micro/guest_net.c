// SPDX-License-Identifier: ISC
/*
 * Answers ARP for 10.99.0.2 (or host=N: 10.99.0.N) and ICMP echo requests to it, over the first
 * network card, until one with 3 bytes of data asks it to end. Prints its address, each change of
 * the link, and what it answered.
 */
#include "guest_virtio.h"

#define NET_F_MAC    (1ull << 5)
#define NET_F_STATUS (1ull << 16)
#define HEADER	     12
#define BUFFERS	     16

static struct virtio_queue rx, tx;
static uint8_t in[BUFFERS][1600], out[1600];
static uint8_t ip[4] = {10, 99, 0, 2};
static uint8_t mac[6];

static void copy(uint8_t *to, const uint8_t *from, uint32_t n)
{
	while (n--)
		*to++ = *from++;
}

static bool same(const uint8_t *a, const uint8_t *b, uint32_t n)
{
	while (n && *a == *b)
		a++, b++, n--;
	return n == 0;
}

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint16_t checksum(const uint8_t *p, uint32_t n)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += (uint32_t)p[i] << (i % 2 ? 0 : 8);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void send(uint32_t len)
{
	copy(out + HEADER + 6, mac, 6);
	virtio_desc(&tx, 0, out, HEADER + len, 0, 0);
	virtio_offer(&tx, 0);
	virtio_kick(&tx);
	virtio_wait(&tx);
}

static void answer_arp(const uint8_t *f)
{
	uint8_t *o = out + HEADER;

	if (get16(f + 20) != 1 || !same(f + 38, ip, 4))
		return;
	copy(o, f + 6, 6);
	copy(o + 12, f + 12, 8);
	o[20] = 0;
	o[21] = 2;
	copy(o + 22, mac, 6);
	copy(o + 28, ip, 4);
	copy(o + 32, f + 22, 10);
	send(60);
	print("arp\n");
}

/* True: it was asked to end. */
static bool answer_echo(const uint8_t *f, uint32_t len)
{
	uint8_t *o = out + HEADER, *icmp = o + 34;
	uint32_t total = get16(f + 16);
	uint16_t sum;

	if (f[14] != 0x45 || f[23] != 1 || !same(f + 30, ip, 4) || f[34] != 8 || total < 28 ||
	    total > len - 14)
		return false;
	copy(o, f, 14 + total);
	copy(o, f + 6, 6);
	copy(o + 26, ip, 4);
	copy(o + 30, f + 26, 4);
	icmp[0] = icmp[2] = icmp[3] = 0;
	sum = checksum(icmp, total - 20);
	icmp[2] = (uint8_t)(sum >> 8);
	icmp[3] = (uint8_t)sum;
	send(14 + total < 60 ? 60 : 14 + total);
	print_value("echo", total - 28);
	return total - 28 == 3;
}

static bool take_frame(const uint8_t *f, uint32_t len)
{
	if (len >= 42 && get16(f + 12) == 0x806)
		answer_arp(f);
	else if (len >= 42 && get16(f + 12) == 0x800)
		return answer_echo(f, len);
	return false;
}

static void offer(uint16_t i)
{
	virtio_desc(&rx, i, in[i], sizeof(in[i]), DESC_WRITE, 0);
	virtio_offer(&rx, i);
	virtio_kick(&rx);
}

void guest_main(void *boot_params, void *pvh_info)
{
	struct virtio_dev dev;
	uint16_t link = 0xff;
	bool end = false;

	guest_begin(boot_params, pvh_info);
	ip[3] = (uint8_t)guest_number("host", 2);
	if (!virtio_find(&dev, VIRTIO_NET, 0) || !virtio_begin(&dev, NET_F_MAC | NET_F_STATUS) ||
	    !virtio_queue_setup(&dev, &rx, 0) || !virtio_queue_setup(&dev, &tx, 1))
		guest_end("net: no device");
	for (unsigned i = 0; i < 6; i++)
		mac[i] = dev.config[i];
	virtio_ok(&dev);
	print_value("mac", mac[5]);
	for (uint16_t i = 0; i < BUFFERS; i++)
		offer(i);
	while (!end) {
		uint16_t now = *(volatile uint16_t *)(dev.config + 6), head;
		uint32_t len;

		if (now != link)
			print_value("link", now);
		link = now;
		if (!virtio_done(&rx))
			continue;
		head = (uint16_t)rx.used.ring[rx.seen % rx.size].id;
		len = virtio_wait(&rx);
		end = take_frame(in[head] + HEADER, len - HEADER);
		offer(head);
	}
	guest_end("net: done");
}
