# shellcheck shell=bash
# Sourced behind lib.sh by tests whose guests do on their card what they are told (guest_wire.c).

export N=$MNT/networks
# the tree's card of a machine is nics/lan in all of them
card() { echo "$M/$1/nics/lan"; }
# guest NAME NETWORK [KEY=VALUE of its card]…: defined and started, with its card's link up
guest() {
	local name=$1 network=$2 kv
	shift 2
	define_guest "$name" wire
	mkdir "$(card "$name")"
	put "$(card "$name")/network" "$network"
	for kv; do put "$(card "$name")/${kv%%=*}" "${kv#*=}"; done
	do_ctl "$name" start
	wait_console "$name" 'link 1'
}
lines() { grep -acE -- "$2" "$M/$1/console" || true; }
more_lines() { [ "$(lines "$1" "$2")" -gt "$3" ]; }
# tell MACHINE LINE: typed on its console; it has done it when it says so
tell() {
	local n
	n=$(lines "$1" '^sent')
	echo "$2" >"$M/$1/console"
	wait_for more_lines "$1" '^sent' "$n"
}
mac_of() { cat "$(card "$1")/mac"; }
# hex of a MAC, or of an IPv4 address
hex() {
	case $1 in
	*:*) echo "${1//:/}" ;;
	*) echo "$1" | tr . ' ' | { read -r a b c d && printf '%02x%02x%02x%02x' "$a" "$b" "$c" "$d"; } ;;
	esac
}
# frame MARK [SOURCE-HEX]: HEX of a frame to all, behind "a " or, from SOURCE, "s "; its length tells
# which one it is. Of a type that nobody has a use for, or, where only known ones pass, of $TYPE.
TYPE=88b5
frame() {
	local pad
	pad=$(printf '00%.0s' $(seq $((60 + $1 - 14))))
	echo "ffffffffffff${2:-mm}$TYPE$pad"
}
# heard WHO FROM-MAC MARK: how often it has come
heard() { lines "$1" "^heard $2 0x0*${TYPE#0} $((60 + $3))\b"; }
has_heard() { [ "$(heard "$@")" -gt 0 ]; }
# hears WHO FROM MARK: FROM sends a frame to all, and WHO hears it
hears() {
	tell "$2" "a $(frame "$3")"
	wait_for has_heard "$1" "$(mac_of "$2")" "$3"
}
