#!/usr/bin/env bash
# Installs what HAQA builds with: Debian packages, llama.cpp built once from its pinned source, and libtorch.
#   ./setup.sh               installs and builds what is missing; quick when nothing is
#   ./setup.sh --tests       also what only the tests need
#   ./setup.sh --path        prints where this machine's build of llama.cpp lies, and does nothing else
#   ./setup.sh --torch-path  the same of libtorch
# HAQA_LLAMA_CPP=DIR  use a llama.cpp you built (DIR holds include/ and build/bin) instead of the pinned one
# HAQA_TORCH=DIR      use the libtorch in DIR (DIR holds include/ and lib/), such as the folder of an installed torch
# HAQA_CACHE=DIR      where both are kept (default: ~/.cache/haqa)
# Safe to interrupt and to run again: every step leaves its result whole or not at all.
set -euo pipefail

PACKAGES=(build-essential cmake ninja-build python3 python3-venv
  nlohmann-json3-dev libvalijson-dev libyaml-cpp-dev libcli11-dev libfmt-dev
  libcurl4-openssl-dev libeigen3-dev libnlopt-dev libpcre2-dev libicu-dev libjpeg62-turbo-dev libonnx-dev libprotobuf-dev libhwloc-dev libseccomp-dev ocl-icd-opencl-dev pocl-opencl-icd
  libsoci-dev libboost-dev libsqlite3-dev libpq-dev libjs-chart.js libgtest-dev libgmock-dev)
TEST_PACKAGES=(postgresql) # a server that the tests start; Debian starts one of its own where it is installed
LLAMA_PACKAGE=llama-cpp-python # its source distribution carries llama.cpp in vendor/
LLAMA_PACKAGE_VERSION=0.3.36
LLAMA_SHA256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
LLAMA_VERSION=0.5.0
LLAMA_TARGETS=(llama llama-bench llama-server llama-cli llama-quantize llama-perplexity)
LLAMA_OPTIONS=(-DCMAKE_BUILD_TYPE=Release -DLLAMA_CURL=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_BUILD_NUMBER=1
  -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF)
TORCH_VERSION=2.13.0

cache=${HAQA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/haqa}

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

# GCC (12, for one) believes that _tile_loadconfig reads 8 of its 64 bytes and drops the stores of the others as dead:
# on a processor with AMX, llama.cpp's products of quantized weights then end by an illegal instruction.
amx_flags() {
  ! { grep -qw amx_int8 /proc/cpuinfo && "${CXX:-c++}" --version | grep -q 'Free Software'; } || echo '-fno-tree-dse -fno-dse'
}
# llama.cpp is compiled for the machine's own instruction set, so a home folder shared by several machines
# needs one build for each.
llama_dir() {
  local cpu
  cpu=$( (grep -m1 -E '^(flags|Features)' /proc/cpuinfo | cut -d: -f2; echo -n "$(amx_flags)") | sha256sum | cut -c1-8)
  echo "$cache/llama.cpp-$LLAMA_VERSION-${LLAMA_SHA256:0:8}-$(uname -m)-$cpu"
}

install_packages() {
  command -v dpkg-query >/dev/null || { say "no dpkg here: install the counterparts of: ${PACKAGES[*]}"; return; }
  local missing=() package root=()
  for package in "${PACKAGES[@]}"; do
    [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == *'ok installed' ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  if ((EUID)); then
    command -v sudo >/dev/null || fail "these packages are missing and there is no sudo; as root run: apt-get install ${missing[*]}"
    root=(sudo)
  fi
  say "installing ${#missing[@]} Debian packages: ${missing[*]}"
  "${root[@]}" apt-get update -qq || say 'apt-get update failed; trying with the lists at hand'
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
    </dev/null >/dev/null || fail "apt-get could not install: ${missing[*]}; see its message above"
}

# Unpacks llama.cpp's source into $1/source. pip checks the download against the pinned hash.
fetch_llama() {
  local dir=$1 part
  [[ ! -d $dir/source ]] || return 0
  say "fetching llama.cpp $LLAMA_VERSION ($LLAMA_PACKAGE $LLAMA_PACKAGE_VERSION, 73 MB)"
  rm -rf "$dir"/fetch.* # of an interrupted set-up
  part=$(mktemp -d "$dir/fetch.XXXXXX")
  # Debian's Python refuses to install outside a virtual environment; downloading prepares metadata, which installs.
  [[ -x $dir/venv/bin/pip ]] || python3 -m venv "$dir/venv" || fail 'python3 -m venv failed; install python3-venv'
  echo "$LLAMA_PACKAGE==$LLAMA_PACKAGE_VERSION --hash=sha256:$LLAMA_SHA256" >"$part/requirements.txt"
  "$dir/venv/bin/pip" download -q --disable-pip-version-check --no-deps --no-binary "$LLAMA_PACKAGE" --require-hashes \
    -d "$part" -r "$part/requirements.txt" ||
    fail "pip could not download $LLAMA_PACKAGE $LLAMA_PACKAGE_VERSION; check the network, or set HAQA_LLAMA_CPP=DIR to a llama.cpp of yours"
  tar -xzf "$part"/*.tar.gz -C "$part" --strip-components=3 --wildcards '*/vendor/llama.cpp'
  rm "$part"/*.tar.gz
  mv "$part" "$dir/source"
}

# Whether the work in folder $1 is still to be done. Two set-ups at once: the second waits and finds it done.
begin() {
  [[ ! -e $1/complete ]] || return 1
  mkdir -p "$1"
  exec 9>"$1/lock"
  flock 9
  [[ ! -e $1/complete ]]
}

build_llama() {
  local dir=$1
  begin "$dir" || return 0
  fetch_llama "$dir"
  say "building llama.cpp $LLAMA_VERSION into $dir (once; about 8 minutes on two cores)"
  cmake -S "$dir/source" -B "$dir/build" -G Ninja "${LLAMA_OPTIONS[@]}" -DCMAKE_CXX_FLAGS="${CXXFLAGS-} $(amx_flags)" >"$dir/build.log" 2>&1 ||
    { tail -20 "$dir/build.log" >&2; fail "cmake could not configure llama.cpp; the whole log is $dir/build.log"; }
  NINJA_STATUS='%f %t ' cmake --build "$dir/build" --target "${LLAMA_TARGETS[@]}" 2>&1 | tee -a "$dir/build.log" | show_progress ||
    { tail -20 "$dir/build.log" >&2; fail "llama.cpp did not build; the whole log is $dir/build.log"; }
  mkdir -p "$dir/include"
  cp "$dir"/source/include/*.h "$dir"/source/ggml/include/*.h "$dir/include/"
  touch "$dir/complete"
}

# Reads ninja's "finished total step" lines: one line that changes on a terminal, a line every tenth otherwise.
show_progress() {
  local finished total rest last=-1 start=$SECONDS
  while read -r finished total rest; do
    [[ $finished =~ ^[0-9]+$ && $total =~ ^[0-9]+$ ]] && ((total)) || continue
    if [[ -t 2 ]]; then
      printf '\rsetup: llama.cpp %3d %%, %d s left ' $((100 * finished / total)) \
        $((finished ? (SECONDS - start) * (total - finished) / finished : 0)) >&2
    elif ((10 * finished / total > last)); then
      last=$((10 * finished / total))
      say "llama.cpp ${last}0 %"
    fi
  done
  [[ ! -t 2 ]] || echo >&2
}

# libtorch lies in PyPI's wheel. Its CPU build is a tenth of the CUDA one, which is taken where there is an NVIDIA
# driver, or where pip can find no other; with --target, pip leaves a failed download out altogether.
fetch_torch() {
  local dir=$1 part venv
  begin "$dir" || return 0
  rm -rf "$dir"/fetch.* "$dir/site" # of an interrupted set-up
  part=$(mktemp -d "$dir/fetch.XXXXXX")
  venv=$part/venv
  python3 -m venv "$venv" || fail 'python3 -m venv failed; install python3-venv'
  local install=("$venv/bin/pip" install -q --disable-pip-version-check --no-compile --target "$part/site")
  say "fetching libtorch $TORCH_VERSION (192 MB, or 3 GB where only a CUDA build is to be had)"
  if [[ -e /proc/driver/nvidia/version ]] || ! "${install[@]}" --no-deps "torch==$TORCH_VERSION+cpu" 2>/dev/null; then
    "${install[@]}" "torch==$TORCH_VERSION" ||
      fail "pip could not download torch $TORCH_VERSION; check the network, or set HAQA_TORCH=DIR to a libtorch of yours"
  fi
  [[ -e $part/site/torch/lib/libtorch_cpu.so ]] || fail "torch $TORCH_VERSION's wheel holds no libtorch_cpu.so; set HAQA_TORCH=DIR"
  mv "$part/site" "$dir/site"
  rm -rf "$part"
  touch "$dir/complete"
}

torch_dir=$cache/torch-$TORCH_VERSION-$(uname -m)
case ${1-} in
  --path) echo "${HAQA_LLAMA_CPP:-$(llama_dir)}"; exit ;;
  --torch-path) echo "${HAQA_TORCH:-$torch_dir/site/torch}"; exit ;;
esac
[[ ${1-} != --tests ]] || PACKAGES+=("${TEST_PACKAGES[@]}")
install_packages
dir=${HAQA_LLAMA_CPP:-$(llama_dir)} # which the compiler has a say in
if [[ ${HAQA_LLAMA_CPP-} ]]; then
  [[ -e $dir/build/bin/llama-bench ]] || fail "HAQA_LLAMA_CPP=$dir holds no build/bin/llama-bench; build llama.cpp there first"
else
  build_llama "$dir"
fi
if [[ ${HAQA_TORCH-} ]]; then
  [[ -e $HAQA_TORCH/lib/libtorch_cpu.so ]] || fail "HAQA_TORCH=$HAQA_TORCH holds no lib/libtorch_cpu.so"
else
  fetch_torch "$torch_dir"
fi
