#!/bin/sh
# layers.sh: checks that dependencies point one way, by the #include lines:
#
#	src/main.c wires all; fsapi -> src -> storage, net; vmm -> storage, net and
#	src/util; src and vmm share only src/vmm_proto.h; storage, net -> src/util only
#	libfuse is known to fsapi/ only, KVM to vmm/ only
#
# One line of words per offence; status 1 if there was any.
set -eu
cd "$(dirname "$0")/.."

# offend LAYER FILES-REGEX HEADERS-REGEX WORDS: no file of the layer may include such a header
bad=0
offend() {
	[ -n "$1" ] || return 0
	# shellcheck disable=SC2086
	found=$(find $1 -maxdepth "$2" -name '*.[ch]' -exec grep -HnE "^[[:space:]]*#[[:space:]]*include[[:space:]]+[<\"]($3)" {} + |
		grep -vE "${5:-^$}" || true)
	[ -z "$found" ] || {
		printf '%s\n' "$found" | sed "s|\$|    <- $4|"
		bad=1
	}
}
present() { for d in "$@"; do [ -d "$d" ] && printf '%s ' "$d"; done; }

# Names of headers without a folder are the file's own folder's or, by -Isrc, those of src/.
model=$(cd src && printf '%s\n' *.h | grep -vxE 'vmm_proto.h|version.h' | paste -sd '|')

offend src 1 '(\.\./)?(fsapi)/' 'the model does not know the tree' '^src/main\.c:'
offend src 1 '(\.\./)?(vmm)/' 'the daemon knows of the VMM only src/vmm_proto.h'
offend src/util 1 '(\.\./)?(fsapi|vmm|storage|net)/' 'util stands alone'
offend src/util 1 "(src/)?($model|vmm_proto\\.h)" 'util stands alone'
offend fsapi 2 '(\.\./)?(vmm|storage|net)/' 'the tree asks the model, not what is below it'
offend fsapi 2 '(src/)?vmm_proto\.h' 'the tree asks the model, not the VMM'
offend vmm 2 '(\.\./)?fsapi/' 'the VMM does not know the tree'
offend vmm 2 "src/($model)" 'the VMM shares with the daemon only src/vmm_proto.h'
for d in $(present storage net); do
	offend $d 2 '(\.\./)?(fsapi|vmm)/' "$d stands below"
	offend $d 2 "src/($model|vmm_proto\\.h)" "$d stands below the model"
done
offend "$(present src vmm storage net)" 2 'fuse' 'only fsapi/ knows libfuse' '^src/main\.c:'
offend "$(present src fsapi storage net)" 2 'linux/kvm\.h' 'only vmm/ knows KVM' '^src/host[a-z_]*\.c:'
exit $bad
