# filevisor: the hypervisor that is a file system.
#
#   make            build the two programs              make demo     see it work
#   make check      build and run every test            make bench    measure it beside its peers
#   make install    PREFIX=/usr/local DESTDIR=          make deps     install what is missing (apt)
#
# Variables: CC=gcc|clang, SANITIZE=address,undefined|thread, V=1 (show commands),
# TEST=name (check only that), BUILD=dir. Adding a source file needs no line here.

CC       ?= gcc
PREFIX   ?= /usr/local
SBINDIR  ?= $(PREFIX)/sbin
LIBEXEC  ?= $(PREFIX)/libexec/filevisor
MANDIR   ?= $(PREFIX)/share/man
DOCDIR   ?= $(PREFIX)/share/doc/filevisor
UNITDIR  ?= $(PREFIX)/lib/systemd/system
SANITIZE ?=
TEST     ?=

comma    := ,
# A build for every kind of instrumentation, side by side.
VARIANT  := $(if $(SANITIZE),/$(subst $(comma),-,$(subst address,asan,$(subst undefined,ubsan,$(subst thread,tsan,$(SANITIZE))))))
ifneq ($(origin CC),default)
ifneq ($(findstring clang,$(CC)),)
VARIANT  := $(VARIANT)/clang
endif
endif
BUILD    ?= build$(VARIANT)
# However it was named: the targets in dependency files are the same.
override BUILD := $(abspath $(BUILD))

Q        := $(if $(V),,@)

DAEMON_PKGS := fuse3 libconfig liburing libzstd zlib libmnl
VMM_PKGS    := libzstd liblzma liblz4 zlib liburing
NBD_PKGS    := libnbd
WARN     := -Wall -Wextra -Wshadow -Wstrict-prototypes -Werror
CPPFLAGS += -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -I. -Isrc -DFILEVISOR_LIBEXEC='"$(LIBEXEC)"'
CFLAGS   ?= -O2 -g
CFLAGS   += -std=gnu11 $(WARN) -pthread -fno-common -fstack-protector-strong
LDFLAGS  += -pthread -Wl,-z,relro,-z,now
ifneq ($(SANITIZE),)
CFLAGS   += -fsanitize=$(SANITIZE) -fno-omit-frame-pointer
ifneq ($(findstring undefined,$(SANITIZE)),)
CFLAGS   += -fno-sanitize-recover=undefined
endif
LDFLAGS  += -fsanitize=$(SANITIZE)
else
# A VMM is started for each guest: without libraries to be linked then, 1.5 ms sooner and smaller.
VMM_LDFLAGS := -static-pie
endif
PKG_CFLAGS  := $(shell pkg-config --cflags $(DAEMON_PKGS) $(VMM_PKGS) 2>/dev/null)
DAEMON_LIBS := $(shell pkg-config --libs $(DAEMON_PKGS) 2>/dev/null)
VMM_LIBS    := $(shell pkg-config --libs $(VMM_PKGS) 2>/dev/null)
NBD_LIBS    := $(shell pkg-config --libs $(NBD_PKGS) 2>/dev/null)

objects   = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
UTIL_SRC    := $(wildcard src/util/*.c)
MODEL_SRC   := $(filter-out src/main.c,$(wildcard src/*.c))
FSAPI_SRC   := $(wildcard fsapi/*.c)
VMM_SRC     := $(filter-out vmm/main.c,$(wildcard vmm/*.c))
STORAGE_SRC := $(wildcard storage/*.c)
NBD_SRC     := $(filter-out storage/nbd/main.c,$(wildcard storage/nbd/*.c))
NET_SRC     := $(wildcard net/*.c)
UNIT_SRC    := $(wildcard tests/unit/*/test_*.c tests/unit/test_*.c)
FUZZ_SRC    := $(wildcard tests/fuzz/fuzz_*.c)
TOOL_SRC    := $(wildcard tests/tools/*.c)
BENCH_SRC   := $(wildcard tests/bench/*.c)
ALL_C       := $(sort $(wildcard src/*.[ch] src/util/*.[ch] fsapi/*.[ch] vmm/*.[ch] storage/*.[ch] storage/*/*.[ch] net/*.[ch] \
		tests/*/*.[ch] tests/*/*/*.[ch]))

ARCHIVES := $(foreach l,model fsapi vmm nbd storage net util,$(BUILD)/lib/lib$(l).a)
PROGRAMS := $(BUILD)/filevisord $(BUILD)/filevisor-vmm $(BUILD)/filevisor-nbd
UNIT_BIN := $(patsubst %.c,$(BUILD)/%,$(UNIT_SRC))
FUZZ_BIN := $(patsubst %.c,$(BUILD)/%,$(FUZZ_SRC))
TOOL_BIN := $(patsubst %.c,$(BUILD)/%,$(TOOL_SRC) $(BENCH_SRC))
GUESTS   := $(patsubst tests/guest/micro/guest_%.c,$(BUILD)/guest/%.elf,$(wildcard tests/guest/micro/guest_*.c))

.PHONY: all check demo bench install uninstall deps clean layers format tidy units guests tools fuzzers check-programs
.DELETE_ON_ERROR:
.SECONDARY:

all: $(PROGRAMS)

$(BUILD)/obj/%.o: %.c
	$(if $(V),,@echo "  CC      $<")
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(PKG_CFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

define archive
$(BUILD)/lib/lib$(1).a: $(call objects,$(2))
	@mkdir -p $$(@D) && rm -f $$@
	$(Q)ar rcs $$@ $$^
endef
$(eval $(call archive,util,$(UTIL_SRC)))
$(eval $(call archive,model,$(MODEL_SRC)))
$(eval $(call archive,fsapi,$(FSAPI_SRC)))
$(eval $(call archive,vmm,$(VMM_SRC)))
$(eval $(call archive,storage,$(STORAGE_SRC)))
$(eval $(call archive,nbd,$(NBD_SRC)))
$(eval $(call archive,net,$(NET_SRC)))

lib = $(patsubst %,$(BUILD)/lib/lib%.a,$(1))

$(BUILD)/filevisord: $(call objects,src/main.c) $(call lib,fsapi model storage net util)
	$(if $(V),,@echo "  LINK    $@")
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(DAEMON_LIBS)

$(BUILD)/filevisor-vmm: $(call objects,vmm/main.c) $(call lib,vmm storage net util)
	$(if $(V),,@echo "  LINK    $@")
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $(VMM_LDFLAGS) -o $@ $^ $(VMM_LIBS)

# The only program that knows libnbd.
$(BUILD)/filevisor-nbd: $(call objects,storage/nbd/main.c) $(call lib,nbd util)
	$(if $(V),,@echo "  LINK    $@")
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(NBD_LIBS)

# --- tests -----------------------------------------------------------------------------

$(BUILD)/tests/unit/%: $(BUILD)/obj/tests/unit/%.o $(call lib,fsapi model vmm nbd storage net util)
	$(if $(V),,@echo "  LINK    $@")
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group \
		-lcmocka $(DAEMON_LIBS) $(VMM_LIBS)

# Helper programs of tests and benchmarks: one file each, no library of ours but storage and util.
$(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(call lib,storage util)
	$(if $(V),,@echo "  LINK    $@")
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(DAEMON_LIBS) $(VMM_LIBS)

# Fuzzers are whole-program clang builds: instrumentation must reach the code under test.
FUZZ_LIB_SRC := $(VMM_SRC) $(NBD_SRC) $(STORAGE_SRC) $(NET_SRC) $(MODEL_SRC) $(UTIL_SRC)
FUZZ_OBJ     := $(patsubst %.c,$(BUILD)/fuzzobj/%.o,$(FUZZ_LIB_SRC))
FUZZ_CFLAGS  := -std=gnu11 -g -O1 -pthread -fsanitize=address,undefined -fno-sanitize-recover=undefined
$(BUILD)/fuzzobj/%.o: %.c
	@mkdir -p $(@D)
	$(Q)clang $(CPPFLAGS) $(PKG_CFLAGS) $(FUZZ_CFLAGS) -fsanitize=fuzzer-no-link -MMD -MP -c $< -o $@
$(BUILD)/lib/libfuzz.a: $(FUZZ_OBJ)
	@mkdir -p $(@D) && rm -f $@
	$(Q)ar rcs $@ $^
$(BUILD)/tests/fuzz/%: tests/fuzz/%.c $(BUILD)/lib/libfuzz.a
	$(if $(V),,@echo "  FUZZ    $@")
	@mkdir -p $(@D)
	$(Q)clang $(CPPFLAGS) $(PKG_CFLAGS) $(FUZZ_CFLAGS) -fsanitize=fuzzer -o $@ $^ $(DAEMON_LIBS) $(VMM_LIBS)

# Micro guests: freestanding programs for the boot vcpu, in long mode from the first instruction.
GUEST_CFLAGS := -I. -std=gnu11 -O2 -Wall -Wextra -Werror -ffreestanding -fno-pic -fno-pie -mcmodel=small \
	-mgeneral-regs-only -mno-red-zone -fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none
$(BUILD)/guest/%.elf: tests/guest/micro/guest_%.c vmm/layout.h $(wildcard tests/guest/micro/*.S tests/guest/micro/*.h tests/guest/micro/*.ld)
	$(if $(V),,@echo "  GUEST   $@")
	@mkdir -p $(@D)
	$(Q)gcc $(GUEST_CFLAGS) -nostdlib -static -Wl,-T,tests/guest/micro/guest.ld -Wl,--build-id=none \
		-Wl,-z,noexecstack -Wl,--no-warn-rwx-segments -o $@ tests/guest/micro/start.S $<

units: $(UNIT_BIN)
guests: $(GUESTS)
tools: $(TOOL_BIN)
fuzzers: $(FUZZ_BIN)
check-programs: all units guests tools

deps:
	$(Q)tests/deps.sh build

check:
	$(Q)tests/deps.sh check
	$(Q)TEST='$(TEST)' V='$(V)' BUILD='$(BUILD)' tests/check.sh

demo:
	$(Q)tests/deps.sh demo
	$(Q)$(MAKE) --no-print-directory -s all
	$(Q)examples/demo.sh $(BUILD)

bench:
	$(Q)tests/deps.sh bench
	$(Q)$(MAKE) --no-print-directory -s all guests tools
	$(Q)tests/bench/run.sh $(BUILD)

# --- the code itself -------------------------------------------------------------------

layers:
	$(Q)tests/layers.sh

format:
	clang-format -i $(ALL_C)

# cppcheck knows neither __attribute__((cleanup)) nor __VA_OPT__, and guesses across files.
tidy:
	$(Q)cppcheck --quiet --error-exitcode=1 --std=c11 --inline-suppr --enable=warning,portability \
		--suppress=memleak --suppress=resourceLeak --suppress=ctunullpointer --suppress=uninitvar \
		--suppress=syntaxError --suppress=unknownMacro -I. -Isrc -D_GNU_SOURCE $(filter %.c,$(filter-out tests/%,$(ALL_C)))

# --- installing ------------------------------------------------------------------------

install: all
	install -D -m 755 $(BUILD)/filevisord $(DESTDIR)$(SBINDIR)/filevisord
	install -D -m 755 $(BUILD)/filevisor-vmm $(DESTDIR)$(LIBEXEC)/filevisor-vmm
	install -D -m 755 $(BUILD)/filevisor-nbd $(DESTDIR)$(LIBEXEC)/filevisor-nbd
	install -D -m 644 src/filevisord.8 $(DESTDIR)$(MANDIR)/man8/filevisord.8
	install -D -m 644 fsapi/filevisor.7 $(DESTDIR)$(MANDIR)/man7/filevisor.7
	install -D -m 644 README.md $(DESTDIR)$(DOCDIR)/README.md
	install -d $(DESTDIR)$(UNITDIR)
	sed 's|@SBINDIR@|$(SBINDIR)|g' src/filevisord.service.in > $(DESTDIR)$(UNITDIR)/filevisord.service
	chmod 644 $(DESTDIR)$(UNITDIR)/filevisord.service

uninstall:
	$(Q)[ -n "$(DESTDIR)" ] || [ ! -x $(SBINDIR)/filevisord ] || $(SBINDIR)/filevisord --clean
	rm -f $(DESTDIR)$(SBINDIR)/filevisord $(DESTDIR)$(MANDIR)/man8/filevisord.8 \
		$(DESTDIR)$(MANDIR)/man7/filevisor.7 $(DESTDIR)$(UNITDIR)/filevisord.service
	rm -rf $(DESTDIR)$(LIBEXEC) $(DESTDIR)$(DOCDIR)
	$(Q)[ -n "$(DESTDIR)" ] || grep -ls '^filevisor interface ' /sys/class/net/*/ifalias | \
		cut -d / -f 5 | xargs -r -n 1 ip link del dev

clean:
	rm -rf build

-include $(shell find $(BUILD)/obj $(BUILD)/fuzzobj -name '*.d' 2>/dev/null)
