# SPDX-License-Identifier: Apache-2.0
# Manta: one Makefile, not recursive over folders. `make help` lists the targets.
#
# BUILD     where everything goes (default build)
# SANITIZE  address,undefined or thread: instrumented build, used by `make asan` and `make tsan`
# CC        gcc (default) or clang

BUILD    ?= build
PREFIX   ?= /usr/local
SANITIZE ?=
OPT      ?= -O3 -g

VERSION_MAJOR := $(shell sed -n 's/^#define MANTA_VERSION_MAJOR //p' include/manta/manta.h)
VERSION_MINOR := $(shell sed -n 's/^#define MANTA_VERSION_MINOR //p' include/manta/manta.h)
VERSION_PATCH := $(shell sed -n 's/^#define MANTA_VERSION_PATCH //p' include/manta/manta.h)
VERSION       := $(VERSION_MAJOR).$(VERSION_MINOR).$(VERSION_PATCH)
SONAME        := libmanta.so.$(VERSION_MAJOR)

ifeq ($(origin CC),default)
CC := gcc
endif
WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings \
            -Wundef -Wvla -Werror
CPPFLAGS += -D_GNU_SOURCE -Iinclude -I.
CFLAGS   += -std=c11 $(OPT) -fPIC -fvisibility=hidden -ffp-contract=off -fno-math-errno -pthread $(WARNINGS)
LDFLAGS  += -pthread
LDLIBS   := -lhwloc -lcrypto
ifneq ($(SANITIZE),)
CFLAGS   += -fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all
LDFLAGS  += -fsanitize=$(SANITIZE)
endif

LIB_DIRS := core topology gpu scheduler transport transport/shm transport/tcp transport/sim plan collectives \
            $(wildcard collectives/*/)
LIB_SRCS := $(sort $(foreach dir,$(LIB_DIRS),$(wildcard $(patsubst %/,%,$(dir))/*.c)))
LIB_OBJS := $(LIB_SRCS:%.c=$(BUILD)/obj/%.o)

# Vector kernels are compiled for their instruction set and reached only after a run-time check.
$(BUILD)/obj/core/reduce_avx2.o:   CFLAGS += -mavx2 -mf16c
$(BUILD)/obj/core/reduce_avx512.o: CFLAGS += -mavx512f -mavx512bw -mavx512vl -mavx512dq -mf16c

TOOLS      := $(patsubst tools/%.c,%,$(wildcard tools/mantarun.c tools/manta.c)) \
              $(if $(wildcard perf/manta-perf.c),manta-perf)
TEST_SRCS  := $(sort $(wildcard tests/unit/*/*_test.c tests/unit/*/*/*_test.c tests/plan/*_test.c))
TEST_BINS  := $(TEST_SRCS:%.c=$(BUILD)/%)
TEST_LIB   := $(BUILD)/lib/libmanta_internal.a

.PHONY: all lib
all: lib $(TOOLS:%=$(BUILD)/bin/%)
lib: $(BUILD)/lib/libmanta.so $(BUILD)/lib/libmanta.a $(BUILD)/lib/pkgconfig/manta.pc

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/lib/libmanta.so.$(VERSION): $(LIB_OBJS) libmanta.map
	@mkdir -p $(@D)
	$(CC) -shared -Wl,-soname,$(SONAME) -Wl,--version-script=libmanta.map -Wl,-z,defs -Wl,-z,relro,-z,now \
	    $(LDFLAGS) $(LIB_OBJS) $(LDLIBS) -o $@

$(BUILD)/lib/libmanta.so: $(BUILD)/lib/libmanta.so.$(VERSION)
	ln -sf libmanta.so.$(VERSION) $(BUILD)/lib/$(SONAME)
	ln -sf $(SONAME) $@

# The tests and tools see the internal symbols; the installed archive keeps them to itself.
$(TEST_LIB): $(LIB_OBJS)
	@mkdir -p $(@D)
	rm -f $@
	ar rcs $@ $^

$(BUILD)/lib/libmanta.a: $(LIB_OBJS)
	@mkdir -p $(@D)
	ld -r $^ -o $(BUILD)/lib/libmanta.o
	objcopy --localize-hidden $(BUILD)/lib/libmanta.o
	rm -f $@
	ar rcs $@ $(BUILD)/lib/libmanta.o

$(BUILD)/lib/pkgconfig/manta.pc: Makefile include/manta/manta.h
	@mkdir -p $(@D)
	printf '%s\n' 'prefix=$(PREFIX)' 'libdir=$${prefix}/lib' 'includedir=$${prefix}/include' '' \
	    'Name: manta' 'Description: Collective communication library' 'Version: $(VERSION)' \
	    'Libs: -L$${libdir} -lmanta' 'Libs.private: -lhwloc -lcrypto -pthread' \
	    'Cflags: -I$${includedir}' > $@

$(BUILD)/bin/mantarun: $(BUILD)/obj/tools/mantarun.o $(TEST_LIB)
$(BUILD)/bin/manta: $(patsubst %.c,$(BUILD)/obj/%.o,$(filter-out tools/mantarun.c,$(wildcard tools/*.c))) $(TEST_LIB)
$(BUILD)/bin/manta-perf: $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard perf/*.c)) $(TEST_LIB)
$(TOOLS:%=$(BUILD)/bin/%):
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) $^ $(LDLIBS) -lm -o $@

# One test program per file; files of tests/support are linked into each.
TEST_SUPPORT := $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard tests/support/*.c))
$(TEST_BINS): $(BUILD)/%: $(BUILD)/obj/%.o $(TEST_SUPPORT) $(TEST_LIB)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) $^ $(LDLIBS) -lcmocka -lm -ldl -o $@

.PHONY: tests
tests: $(TEST_BINS)

-include $(LIB_OBJS:.o=.d) $(patsubst %.c,$(BUILD)/obj/%.d,$(wildcard tools/*.c perf/*.c tests/support/*.c) $(TEST_SRCS))
