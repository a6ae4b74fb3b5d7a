#!/bin/bash
# A clone of a running Linux has an id of its own (VM generation ID), and its random numbers do not
# go on where those of the first did: it says so. The first hears nothing of it.
# time: 400
. "${0%/*}/../lib.sh"

need_linux
start_daemon
define_linux one # one that goes on from a snapshot would have heard of it
do_ctl one start
wait_linux one
reseeded() { console_has "$1" 'crng reseeded due to virtual machine fork'; }
sh_linux one 'dmesg -n 8'
do_ctl one 'clone two'
state_is two running
wait_for -t 120 reseeded two || fail "two: $(tail -n 5 "$M/two/console")"
is "$(number_linux two 'dmesg | grep -c "virtual machine fork"')" 1
is "$(number_linux one 'dmesg | grep -c "virtual machine fork" || true')" 0
a=$(sh_linux one 'head -c 16 /dev/urandom | od -An -tx1')
b=$(sh_linux two 'head -c 16 /dev/urandom | od -An -tx1')
[ "$a" != "$b" ] || fail "both have $a"
