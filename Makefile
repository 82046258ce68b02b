# `make demo` and `make test` set up all they need; what it is stands in tools/.
PY = .venv/bin/python
BUILD = build/core
CFLAGS = -O2 -g
STRICT = -Wconversion -Wshadow -Wstrict-prototypes -pedantic -Werror
CORE_FLAGS = -std=c11 -D_GNU_SOURCE= -Wall -Wextra -fvisibility=hidden $(CFLAGS) $(STRICT)
CORE = $(sort $(wildcard mcext/core/*/*.c))
CORE_HEADERS = $(wildcard mcext/core/*/*.h)
CORE_OBJECTS = $(CORE:mcext/core/%.c=$(BUILD)/%.o)
CORE_TESTS = $(patsubst tests/core/%.c,$(BUILD)/%,$(sort $(wildcard tests/core/test_*.c)))
UNDER =
SECONDS = 60
COUNT = 200
SEED = 1
LEAK_CALLS = 1000000

.PHONY: help demo test slow tls core lint pythons bare asan ubsan tsan valgrind fuzz limits model mutants bench chaos leaks nightly docs wheels wheels-try wheels-check clean

help:
	@echo "make demo      what the client does, on a memcached of its own"
	@echo "make test      the tests, on one Python (in less than five minutes on two cores), but those of make slow"
	@echo "make slow      the tests that take long: faults over TLS, failing allocations, other frameworks' programs"
	@echo "make tls       the tests again, over TLS; and handshakes cut at every byte"
	@echo "make core      the C core alone, with strict warnings, and its own tests"
	@echo "make lint      format, style, sizes, no circles between files, static checks"
	@echo "make pythons   the tests on all Pythons: CPython 3.10 to 3.15 and free-threaded 3.13 (needs root)"
	@echo "make bare      demo and test in Debians that have next to nothing (needs root)"
	@echo "make asan, ubsan, tsan   the tests under these checkers"
	@echo "make valgrind  the C tests, and those tests that drive the C code, under valgrind (CPython 3.12 or newer)"
	@echo "make limits    no call takes more instructions than benchmarks/limits.json allows"
	@echo "make model     the ownership of connections, checked exhaustively by spin"
	@echo "make mutants   the C core changed at random, COUNT=200 times, one small change at a time: do the tests notice?"
	@echo "make fuzz      each fuzz target for SECONDS=60"
	@echo "make chaos     a million calls under each fault of the network, and a hundred thousand over TLS; and of tasks"
	@echo "make leaks     a million calls of each kind and each failure leave memory, references and descriptors level"
	@echo "make nightly   20,000 new sequences of calls beside python-memcached, and new examples for hypothesis' other tests"
	@echo "make bench     the tables and the plots of docs/performance.md and docs/asyncio.md"
	@echo "make docs      the site of docs/, in build/site/html; a warning is an error"
	@echo "make wheels    sdist and wheels in dist/, the same bytes everywhere; WHEELS='cp311-*' for some of them"
	@echo "make wheels-try, wheels-check   the wheels installed and used, where there is a Python; some of them made twice"
	@echo "make clean     removes all that these made"

demo:
	@tools/setup.sh
	@$(PY) examples/demo.py

test: core
	@tools/test.sh first

slow:
	@tools/test.sh slow

tls:
	@MCEXT_TLS=1 tools/test.sh first -q -rs -m "not frameworks and not slow"
	@MCEXT_TLS_EACH=1 $(PY) -m pytest -q tests/connections/test_tls_failures.py

core: $(CORE_TESTS)
	@for test in $(CORE_TESTS); do $(UNDER) $$test || { echo "$$test failed"; exit 1; }; done
	@echo "core: $(words $(CORE)) files compiled, $(words $(CORE_TESTS)) test programs passed"

.SECONDARY:
.PHONY: system
system:
	@tools/system.sh run

$(BUILD)/%.o: mcext/core/%.c $(CORE_HEADERS) | system
	@mkdir -p $(@D)
	$(CC) $(CORE_FLAGS) -Imcext -c -o $@ $<

# A test is one program over the whole core.
$(BUILD)/%: tests/core/%.c $(CORE_OBJECTS) $(CORE_HEADERS) $(wildcard tests/core/*.h)
	$(CC) $(CORE_FLAGS) -Imcext -o $@ $< $(CORE_OBJECTS) -lz -lpthread

lint:
	@tools/lint.sh

pythons:
	@tools/pythons.sh

bare:
	@tools/bare.sh

asan ubsan tsan valgrind:
	@tools/sanitize.sh $@

fuzz:
	@tools/system.sh run clang
	@tests/fuzz/run.sh $(SECONDS)

limits:
	@tools/system.sh run valgrind
	@tools/setup.sh
	@$(PY) benchmarks/check_limits.py

model:
	@tools/system.sh spin
	@tests/model/run.sh

mutants:
	@tools/setup.sh
	@$(PY) -m tests.mutants --count $(COUNT) --seed $(SEED)

bench:
	@tools/system.sh run valgrind redis
	@tools/setup.sh
	@$(PY) benchmarks/run.py

chaos:
	@tools/setup.sh
	@$(PY) -m tests.chaos --long
	@$(PY) -m tests.chaos --tls --calls 100000 --waiting-calls 5000
	@MCEXT_ASYNC_CHAOS_CALLS=1000000 $(PY) -m pytest -q -s tests/asyncio/test_async_chaos.py --timeout=0

leaks:
	@tools/setup.sh
	@MCEXT_LEAK_CALLS=$(LEAK_CALLS) $(PY) -m pytest -q -s tests/memory/test_leaks.py --timeout=0

nightly:
	@tools/setup.sh
	@MCEXT_SEQUENCES=20000 MCEXT_SEED=$$(shuf -n 1 -i 1-4000000000) $(PY) -m pytest --hypothesis-profile=random --timeout=0 \
		$$(grep -rlE '^from hypothesis import .*\bgiven\b' tests)

docs:
	@tools/docs.sh

# Which wheels: patterns of their tags, such as 'cp313t-*' or '*-musllinux*'. None: all; wheels-check: two of them.
WHEELS =

wheels:
	@tools/wheels.sh tools.wheels $(foreach tag,$(WHEELS),'$(tag)')

wheels-try:
	@tools/system.sh run build
	@tools/wheels.sh tools.wheels.trial $(foreach tag,$(WHEELS),'$(tag)')

wheels-check:
	@tools/wheels.sh tools.wheels.twice $(foreach tag,$(WHEELS),'$(tag)')

clean:
	rm -rf .venv build dist *.egg-info .hypothesis .pytest_cache .mypy_cache .ruff_cache
	find mcext -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
