// SPDX-License-Identifier: ISC
/*
 * A guest that does on its first network card what it is told on the console, a line each:
 *
 *	i A.B.C.D	has that address from now on, says so to all (ARP), answers ARP and pings
 *	s HEX		sends these bytes as a frame, whoever they say it is from
 *	a HEX		the same with the card's own address as the frame's source, and wherever
 *			"mm" stands in it
 *	q		ends
 *
 * Prints its address ("mac 52:…"), each change of the link, "sent" after each frame, and of each
 * frame that came "heard SOURCE TYPE LENGTH" (with a tag: that of the tag).
 */
#include "guest_virtio.h"

#define NET_F_MAC    (1ull << 5)
#define NET_F_STATUS (1ull << 16)
#define HEADER	     12
#define BUFFERS	     32
#define FRAME_MIN    60

static struct virtio_queue rx, tx;
static uint8_t in[BUFFERS][1700], out[1700];
static uint8_t mac[6], ip[4];
static bool has_ip;
static char line[3500];
static uint32_t n_line;

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

static void print_mac(const uint8_t *p)
{
	for (uint32_t i = 0; i < 6; i++) {
		if (i)
			putch(':');
		putch("0123456789abcdef"[p[i] >> 4]);
		putch("0123456789abcdef"[p[i] & 15]);
	}
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
	for (; len < FRAME_MIN; len++)
		out[HEADER + len] = 0;
	virtio_desc(&tx, 0, out, HEADER + len, 0, 0);
	virtio_offer(&tx, 0);
	virtio_kick(&tx);
	virtio_wait(&tx);
}

/* --- what comes --------------------------------------------------------------------------------
 */

static void put_arp(uint8_t op, const uint8_t *to, const uint8_t *target_ip)
{
	static const uint8_t head[8] = {0, 1, 8, 0, 6, 4, 0, 0};
	uint8_t *o = out + HEADER;

	copy(o, to, 6);
	copy(o + 6, mac, 6);
	o[12] = 8;
	o[13] = 6;
	copy(o + 14, head, 8);
	o[21] = op;
	copy(o + 22, mac, 6);
	copy(o + 28, ip, 4);
	copy(o + 32, to, 6);
	copy(o + 38, target_ip, 4);
	send(42);
}

static void answer_echo(const uint8_t *f, uint32_t len)
{
	uint8_t *o = out + HEADER, *icmp = o + 34;
	uint32_t total = get16(f + 16);
	uint16_t sum;

	if (f[14] != 0x45 || f[23] != 1 || !same(f + 30, ip, 4) || f[34] != 8 || total < 28 ||
	    total > len - 14)
		return;
	copy(o, f, 14 + total);
	copy(o, f + 6, 6);
	copy(o + 6, mac, 6);
	copy(o + 26, ip, 4);
	copy(o + 30, f + 26, 4);
	icmp[0] = icmp[2] = icmp[3] = 0;
	sum = checksum(icmp, total - 20);
	icmp[2] = (uint8_t)(sum >> 8);
	icmp[3] = (uint8_t)sum;
	send(14 + total);
}

static void take_frame(const uint8_t *f, uint32_t len)
{
	if (len < 14)
		return;
	print("heard ");
	print_mac(f + 6);
	putch(' ');
	print_hex(get16(f + 12));
	putch(' ');
	print_dec(len);
	putch('\n');
	if (!has_ip || len < 42)
		return;
	if (get16(f + 12) == 0x806 && get16(f + 20) == 1 && same(f + 38, ip, 4))
		put_arp(2, f + 6, f + 28);
	else if (get16(f + 12) == 0x800)
		answer_echo(f, len);
}

/* --- what it is told ----------------------------------------------------------------------------
 */

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void take_ip(const char *p)
{
	static const uint8_t all[6] = {255, 255, 255, 255, 255, 255};
	uint32_t i = 0;

	ip[0] = ip[1] = ip[2] = ip[3] = 0;
	for (; *p && i < 4; p++)
		if (*p == '.')
			i++;
		else
			ip[i] = (uint8_t)(ip[i] * 10 + (*p - '0'));
	has_ip = true;
	put_arp(1, all, ip);
	print("sent\n");
}

static void take_hex(const char *p, bool own)
{
	uint8_t *o = out + HEADER;
	uint32_t len = 0;

	while (p[0] && p[1] && len < sizeof(out) - HEADER - 6) {
		if (p[0] == 'm' && p[1] == 'm') {
			copy(o + len, mac, 6);
			len += 6;
		} else {
			o[len++] = (uint8_t)(digit(p[0]) << 4 | digit(p[1]));
		}
		p += 2;
	}
	if (own)
		copy(o + 6, mac, 6);
	send(len);
	print("sent\n");
}

/* True: it is to end. */
static bool take_line(void)
{
	if (line[0] == 'i' && line[1])
		take_ip(line + 2);
	else if ((line[0] == 's' || line[0] == 'a') && line[1])
		take_hex(line + 2, line[0] == 'a');
	return line[0] == 'q';
}

static bool take_char(char c)
{
	bool end = false;

	if (c == '\n' || c == '\r') {
		line[n_line] = 0;
		end = take_line();
		n_line = 0;
		line[0] = 0;
	} else if (n_line < sizeof(line) - 2) {
		line[n_line++] = c;
	}
	return end;
}

/* --- its life ------------------------------------------------------------------------------------
 */

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
	if (!virtio_find(&dev, VIRTIO_NET, 0) || !virtio_begin(&dev, NET_F_MAC | NET_F_STATUS) ||
	    !virtio_queue_setup(&dev, &rx, 0) || !virtio_queue_setup(&dev, &tx, 1))
		guest_end("wire: no device");
	for (unsigned i = 0; i < 6; i++)
		mac[i] = dev.config[i];
	virtio_ok(&dev);
	for (uint16_t i = 0; i < BUFFERS; i++)
		offer(i);
	print("mac ");
	print_mac(mac);
	putch('\n');
	while (!end) {
		uint16_t now = *(volatile uint16_t *)(dev.config + 6), head;
		uint32_t len;

		if (now != link)
			print_value("link", now);
		link = now;
		while (!end && serial_ready())
			end = take_char(serial_get());
		if (!virtio_done(&rx))
			continue;
		head = (uint16_t)rx.used.ring[rx.seen % rx.size].id;
		len = virtio_wait(&rx);
		take_frame(in[head] + HEADER, len - HEADER);
		offer(head);
	}
	guest_end("wire: done");
}
