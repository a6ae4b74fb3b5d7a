// SPDX-License-Identifier: ISC
/* Rules of networks: what the script says, and that nft takes it, in a namespace of the test's. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "net/host_nft.h"
#include "util/cleanup.h"
#include "util/tool.h"

static const struct nft_port ports[] = {
    {"fvt1", {0x52, 0x54, 0, 0, 0, 1}, {10, 9, 0, 2}, 0},
    {"fvt2", {0x52, 0x54, 0, 0, 0, 2}, {0}, 0},
};
static const struct nft_forward forwards[] = {
    {.first = 8080, .last = 8080, .to_port = 80, .family = AF_INET, .to = {10, 9, 0, 2}},
    {.udp = true, .first = 53, .last = 54, .to_port = 53, .family = AF_INET, .to = {10, 9, 0, 2}},
    {.first = 90, .last = 91, .to_port = 190, .family = AF_INET6, .to = {0xfd, [15] = 2}},
};
static const struct nft_network all[] = {
    {.kind = NFT_NAT,
     .bridge = "fv-lan",
     .v4 = {{10, 9, 0, 1}, 24},
     .v6 = {{0xfd, [15] = 1}, 64},
     .strict = true,
     .ports = ports,
     .n_ports = 2,
     .forwards = forwards,
     .n_forwards = 3},
    {.kind = NFT_ROUTE, .bridge = "fv-out", .v4 = {{10, 8, 0, 0}, 16}, .no_host = true},
    {.kind = NFT_ISOLATED, .bridge = "fv-in", .no_host = true},
    {.kind = NFT_BRIDGED, .bridge = "br0", .ports = ports, .n_ports = 1},
};

static char *script_of(const char *owner, size_t n)
{
	struct strbuf sb = STRBUF_INIT;

	host_nft_script("filevisor_t", owner, all, n, &sb);
	assert_false(sb.failed);
	return strbuf_steal(&sb);
}

static void must_hold(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("'%s' is not in:\n%s", part, text);
}

static void the_script_says_what_is_wanted(void **state)
{
	static const char *const parts[] = {
	    "oifname != \"fv-lan\" ip saddr 10.9.0.0/24 ip daddr != 10.9.0.0/24 masquerade",
	    "tcp dport 8080 dnat ip to 10.9.0.2:80\n",
	    "udp dport 53-54 dnat ip to 10.9.0.2\n",
	    "tcp dport 91 dnat ip6 to [fd00::2]:191\n",
	    "iifname \"fv-in\" oifname != \"fv-in\" drop",
	    "oifname \"fv-in\" iifname != \"fv-in\" drop",
	    "iifname \"fv-out\" oifname != \"fv-out\" ip saddr != 10.8.0.0/16 drop",
	    "iifname \"fv-in\" drop",
	    "chain port_fvt1 {\n  ether saddr != 52:54:00:00:00:01 drop",
	    "arp saddr ip != { 0.0.0.0, 10.9.0.2 } drop",
	    "arp saddr ip != { 0.0.0.0, 10.9.0.0/24 } drop",
	    "\"fvt1\" : jump port_fvt1, \"fvt2\" : jump port_fvt2 }",
	};
	_cleanup_free_ char *script = script_of("me", nitems(all));
	char *drop, *allow;

	(void)state;
	for (size_t i = 0; i < nitems(parts); i++)
		must_hold(script, parts[i]);
	assert_null(strstr(script, "saddr 10.8.0.0/16 ip daddr != 10.8.0.0/16 masquerade"));
	assert_null(strstr(script, "br0")); /* it is not strict */
	/* no other's `accept` comes before what isolates */
	drop = strstr(script, "oifname \"fv-in\" iifname");
	allow = strstr(script, "oifname \"fv-lan\" ct state established");
	assert_true(drop && allow && drop < allow);
}

static void words_of_others_stay_in_their_comment(void **state)
{
	_cleanup_free_ char *script = script_of("x\" }; flush ruleset\n\x7f", 1);

	(void)state;
	must_hold(script, "comment \"x? }; flush ruleset??\"\n");
}

static char *list(void)
{
	static const char *const argv[] = {"nft", "list", "ruleset", NULL};
	struct strbuf sb = STRBUF_INIT;
	struct tool tool = {.argv = argv, .timeout_ms = 20000, .out = &sb};

	strbuf_puts(&sb, "");
	assert_int_equal(tool_run(&tool, NULL), 0);
	return strbuf_steal(&sb);
}

static void nft_takes_it_whole(void **state)
{
	static const char other[] = "table ip filter {\n chain DOCKER-USER { }\n chain FORWARD {\n"
				    " type filter hook forward priority 0; policy drop;\n }\n}\n";
	_cleanup_free_ char *script = script_of("me", nitems(all)), *none = script_of("me", 0);
	_cleanup_strbuf_ struct strbuf first = STRBUF_INIT, second = STRBUF_INIT,
				       broken = STRBUF_INIT;
	struct err err = ERR_INIT;

	(void)state;
	if (access("/usr/sbin/nft", X_OK) < 0 || unshare(CLONE_NEWNET) < 0) {
		print_message("no nft, or no network namespace of its own\n");
		skip();
	}
	assert_false(host_nft_docker_drops());
	assert_int_equal(host_nft_apply(other, NULL, &err), 0);
	assert_true(host_nft_docker_drops());
	_cleanup_free_ char *before = list();
	/* once, and over what is there: the same */
	if (host_nft_apply(script, NULL, &err) < 0)
		fail_msg("%s\n%s", err.text, script);
	assert_int_equal(host_nft_list("filevisor_t", &first, &err), 0);
	assert_int_equal(host_nft_apply(script, NULL, &err), 0);
	assert_int_equal(host_nft_list("filevisor_t", &second, &err), 0);
	assert_string_equal(first.data, second.data);
	/* whose they are */
	assert_int_equal(host_nft_check("filevisor_t", "me", &err), 0);
	assert_int_equal(host_nft_check("filevisor_u", "you", &err), 0);
	assert_int_equal(host_nft_check("filevisor_t", "m", &err), -EEXIST);
	assert_non_null(strstr(err.text, "inet filevisor_t"));
	/* what does not end well changes nothing */
	strbuf_puts(&broken, none);
	strbuf_puts(&broken, "table inet filevisor_t { chain x { nonsense; } }\n");
	assert_int_equal(host_nft_apply(broken.data, NULL, &err), -EIO);
	strbuf_reset(&second);
	assert_int_equal(host_nft_list("filevisor_t", &second, &err), 0);
	assert_string_equal(first.data, second.data);
	/* others' are as they were when ours are gone */
	assert_int_equal(host_nft_apply(none, NULL, &err), 0);
	assert_true(host_nft_list("filevisor_t", &second, &err) < 0);
	_cleanup_free_ char *after = list();
	assert_string_equal(before, after);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_script_says_what_is_wanted),
	    cmocka_unit_test(words_of_others_stay_in_their_comment),
	    cmocka_unit_test(nft_takes_it_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
