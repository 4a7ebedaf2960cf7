# make demo   sets up what is missing, builds, and runs the main job on a small generated model
# make test   the same set-up, then all tests
# make build  leaves the programs in build/bin/
# Further chores: check (all of CI), asan, tsan, fuzz, bench, format, clean
SHELL := /bin/bash
JOBS ?= $(shell nproc)
BIN := build/bin
DEMO_MODEL := build/demo/tiny-f16.gguf

.PHONY: demo test build setup setup-tests check asan tsan fuzz bench format clean

demo: build $(DEMO_MODEL)
	$(BIN)/haqa run examples/quickstart.yaml

test: setup-tests build
	@cmake --build build -j $(JOBS)
	ctest --test-dir build --output-on-failure --no-tests=error -j $(JOBS)

build: setup build/build.ninja
	@cmake --build build -j $(JOBS) --target haqa haqa-infer haqa-train

setup:
	@./setup.sh

setup-tests:
	@./setup.sh --tests

build/build.ninja: CMakeLists.txt setup.sh $(wildcard cmake/*.cmake) | setup
	cmake --preset release

$(DEMO_MODEL): | build
	@mkdir -p $(@D)
	$(BIN)/haqa make-model tiny --output $@

check: test asan

# The tests under AddressSanitizer and UndefinedBehaviorSanitizer, or ThreadSanitizer; ROOMS="model hardware" for some.
empty :=
space := $(empty) $(empty)
asan tsan: setup-tests
	cmake --preset $@ >/dev/null
	cmake --build --preset $@ -j $(JOBS) $(if $(ROOMS),--target haqa-infer $(if $(filter finetune,$(ROOMS)),haqa-train) $(ROOMS:%=haqa_%_test))
	TSAN_OPTIONS="suppressions=$(CURDIR)/cmake/tsan.supp die_after_fork=0" \
	ctest --test-dir build/$@ --output-on-failure --no-tests=error -j $(JOBS) $(if $(ROOMS),-R '^($(subst $(space),|,$(ROOMS)))\.')

fuzz: setup
	cmake --preset fuzz >/dev/null
	cmake --build --preset fuzz -j $(JOBS)
	fuzz/run.sh build/fuzz

bench: build
	bench/run.sh

format:
	git ls-files '*.cpp' '*.h' | xargs clang-format -i

clean:
	rm -rf build
