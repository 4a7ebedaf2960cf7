# make demo   sets up what is missing, builds, pretrains a small model, and runs the main job on it
# make test   the same set-up, then all tests
# make build  leaves the programs in build/bin/
# Further chores: check (all tests, then all under the sanitizers), asan, tsan, fuzz, bench, format, clean
SHELL := /bin/bash
JOBS ?= $(shell nproc)
BIN := build/bin
DEMO := build/demo

.DELETE_ON_ERROR:
.PHONY: demo test build setup setup-tests check asan tsan fuzz bench format clean

demo: build $(DEMO)/demo-f16.gguf
	$(BIN)/haqa run examples/quickstart.yaml

test: setup-tests build
	@cmake --build build -j $(JOBS)
	ctest --test-dir build --output-on-failure --no-tests=error -j $(JOBS)

build: setup build/build.ninja
	@cmake --build build -j $(JOBS) --target haqa haqa-infer haqa-train haqa-kernel haqa-ggml

setup:
	@./setup.sh

setup-tests:
	@./setup.sh --tests

build/build.ninja: CMakeLists.txt setup.sh $(wildcard cmake/*.cmake) | setup
	cmake --preset release

$(DEMO)/pretrain.jsonl: examples/quickstart/world.py | build
	python3 $< $(DEMO)

$(DEMO)/demo-f16.gguf: $(DEMO)/pretrain.jsonl
	@rm -rf $(DEMO)/random-f16.gguf $@ $@.unfinished
	$(BIN)/haqa make-model demo --output $(DEMO)/random-f16.gguf
	$(BIN)/haqa pretrain $(DEMO)/random-f16.gguf $< --steps 400 --batch 8 --learning-rate 3e-3 --context 64 --output $@

check: test asan

# The tests under AddressSanitizer and UndefinedBehaviorSanitizer, or ThreadSanitizer; ROOMS="model hardware" for some.
empty :=
space := $(empty) $(empty)
asan tsan: setup-tests
	cmake --preset $@ >/dev/null
	cmake --build --preset $@ -j $(JOBS) $(if $(ROOMS),--target $(if $(filter evaluate deploy finetune,$(ROOMS)),haqa-infer) $(if $(filter finetune,$(ROOMS)),haqa-train) $(ROOMS:%=haqa_%_test))
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
