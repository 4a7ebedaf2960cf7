#include "haqa/deploy/bundle.h"

#include <fmt/format.h>
#include <unistd.h>

#include <map>

#include "haqa/base/error.h"
#include "haqa/base/file.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

constexpr const char* kModule = "haqa/libggml-haqa.so";  ///< within the bundle

/// Its device is to be named, or llama-server does not look for the module; without it stock code serves.
constexpr const char* kNameDevice =
    R"sh("$server" --list-devices 2>/dev/null | grep -q '^ *HAQA:' && set -- --device HAQA "$@"
)sh";

/// As one word of a POSIX shell, whatever it holds.
std::string quoted(const std::string& word) {
  if (word.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+=:,-") ==
      std::string::npos)
    return word;
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

/// What the measurements ran with: OpenMP's variables of the user's shell, and those of the options, which come first.
std::map<std::string, std::string> measured_environment(const RuntimeOptions& options) {
  std::map<std::string, std::string> all;
  for (const auto& [name, value] : runtime_environment(options, kModule)) all[name] = value;
  for (char** entry = environ; *entry; ++entry) {
    const std::string_view text = *entry;
    const size_t end = text.find('=');
    const bool is_openmp = text.starts_with("OMP_") || text.starts_with("GOMP_") || text.starts_with("KMP_");
    if (is_openmp && end != std::string_view::npos)
      all.emplace(std::string(text.substr(0, end)), std::string(text.substr(end + 1)));
  }
  return all;
}

std::string environment_words(const RuntimeOptions& options) {
  std::string words;
  for (const auto& [name, value] : measured_environment(options)) words += fmt::format("{}={} ", name, quoted(value));
  return words;
}

/// For a script that knows the bundle's folder as $here. What the user's shell says of the module is of no bundle.
std::string exports_of(const RuntimeOptions& options) {
  std::string exports = "unset GGML_BACKEND_PATH HAQA_TUNING\n";
  for (const auto& [name, value] : measured_environment(options))
    exports += fmt::format("export {}={}{}\n", name, name == "GGML_BACKEND_PATH" ? "\"$here\"/" : "", quoted(value));
  return exports;
}

/// One slot and no cache of old prompts, which alone may take 8 GiB: what was planned and measured.
std::string arguments(const RuntimeOptions& options, int context) {
  std::string words = fmt::format("--ctx-size {} --parallel 1 --cache-ram 0", context);
  for (const std::string& argument : server_arguments(options)) words += " " + quoted(argument);
  return words;
}

/// A tuning file, as the module finds it beside itself, with the variants and the sources that it names, which lie in
/// folders beside it.
void add_tuning(const fs::path& tuning, const fs::path& folder) {
  const Json json = read_json(tuning);
  for (const Json& kernel : json.at("kernels"))
    for (const char* key : {"file", "source"}) {
      if (!kernel.contains(key)) continue;
      const fs::path name = kernel[key].get<std::string>();
      make_folder((folder / name).parent_path());
      link_or_copy(tuning.parent_path() / name, folder / name);
    }
  link_or_copy(tuning, folder / "haqa-tuning.json");
}

/// The module and the compiled kernels that stand beside it.
void add_module(const fs::path& module, const fs::path& folder) {
  make_folder(folder / "kernels");
  link_or_copy(module, folder / module.filename());
  for (const fs::directory_entry& kernel : fs::directory_iterator(module.parent_path() / "kernels"))
    if (kernel.path().extension() == ".so") link_or_copy(kernel.path(), folder / "kernels" / kernel.path().filename());
}

void write_script(const fs::path& file, const std::string& text) {
  write_file(file, text);
  fs::permissions(file, fs::perms::owner_exec | fs::perms::group_exec | fs::perms::others_exec, fs::perm_options::add);
}

}  // namespace

void link_or_copy(const fs::path& from, const fs::path& to) {
  std::error_code code;
  const fs::path file = fs::canonical(from, code);  // a link to a symbolic link would break when the bundle moves
  if (code) throw Error("{}: cannot be put into the bundle: {}", from.string(), code.message());
  if (fs::equivalent(file, to, code)) return;
  // Under another name first: what stands there already may be another model of the same name.
  PendingFile pending(to);
  fs::remove(pending.path(), code);
  fs::create_hard_link(file, pending.path(), code);
  if (!code) return pending.commit();
  require_space(to.parent_path(), fs::file_size(file), "the bundle");
  fs::copy_file(file, pending.path(), code);
  if (code) throw Error("{}: cannot be copied into the bundle: {}", from.string(), code.message());
  pending.commit();
}

std::string launch_script(const std::string& model_name, const RuntimeOptions& options, int context) {
  return fmt::format(R"sh(#!/bin/sh
# Serves the model with the options that HAQA found best (llama.cpp's own where none is named): http://127.0.0.1:8080. Further arguments are passed on.
# Needs llama.cpp's llama-server in PATH, or LLAMA_SERVER=/path/to/llama-server.
here=$(dirname -- "$(readlink -f -- "$0")")
server=${{LLAMA_SERVER:-llama-server}}
{}{}exec "$server" --model "$here"/{} {} "$@"
)sh",
                     exports_of(options), options.kernels == "haqa" ? kNameDevice : "", quoted(model_name),
                     arguments(options, context));
}

std::string verify_script(const std::string& model_name, const RuntimeOptions& options) {
  const auto words = [&](bool prompt) {
    std::string all;
    for (const std::string& argument : bench_arguments(options, prompt)) all += " " + quoted(argument);
    return all;
  };
  return fmt::format(R"sh(#!/bin/sh
# Compares this bundle with stock llama.cpp on this machine: tokens per second of the same model, in turn, five times.
# Needs llama.cpp's llama-bench in PATH, or LLAMA_BENCH=/path/to/llama-bench. TOKENS=128 are read and generated.
here=$(dirname -- "$(readlink -f -- "$0")")
bench=${{LLAMA_BENCH:-llama-bench}}
tokens=${{TOKENS:-128}}
wanted={4} # the back end that this bundle runs, where it brings one
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
fail() {{ # with what llama-bench said, above all the module
  grep '^haqa:' "$log" >&2 || tail -n 5 "$log" >&2
  echo "verify.sh: $1" >&2
  exit 1
}}
command -v "$bench" >/dev/null || fail "no $bench; set LLAMA_BENCH=/path/to/llama-bench"
rate() {{ # of one test: tokens per second, and the back end that llama-bench names
  "$bench" -m "$here"/{0} -r 1 -o jsonl "$@" 2>"$log" |
    sed -n 's/.*"backends": *"\([^"]*\)".*"avg_ts": *\([0-9.][0-9.eE+-]*\).*/\2 \1/p'
}}
stock_environment() {{ unset GGML_BACKEND_PATH HAQA_TUNING; }}
tuned_environment() {{
{1}}}
stock_prompt() {{ stock_environment; rate -p "$tokens" -n 0; }}
stock_generation() {{ stock_environment; rate -p 0 -n "$tokens"; }}
tuned_prompt() {{ tuned_environment; rate -p "$tokens" -n 0{2}; }}
tuned_generation() {{ tuned_environment; rate -p 0 -n "$tokens"{3}; }}
measure() {{ # "$1": stock or tuned
  result=$("$1_$2")
  [ -n "$result" ] || fail "$bench gave no result"
  backend=${{result#* }}
  case ,$backend, in
    *",$wanted,"*) ;;
    *) [ "$1" = stock ] || [ -z "$wanted" ] || fail "the bundle's kernels do not serve here: $bench ran $backend" ;;
  esac
}}
compare() {{
  pairs=
  for i in 1 2 3 4 5; do
    case $i in # whoever comes first
      [135]) measure stock "$1"; stock=$result; measure tuned "$1"; tuned=$result ;;
      *) measure tuned "$1"; tuned=$result; measure stock "$1"; stock=$result ;;
    esac
    pairs="$pairs${{stock%% *}} ${{tuned%% *}}
"
  done
  printf '%s' "$pairs" | awk -v name="$1" -v backends="${{stock#* }} and ${{tuned#* }}" '
    function sort(v,  i, j, t) {{
      for (i = 1; i <= NR; ++i) for (j = i + 1; j <= NR; ++j) if (v[j] < v[i]) {{ t = v[i]; v[i] = v[j]; v[j] = t }}
    }}
    {{ stock[NR] = $1; tuned[NR] = $2; ratio[NR] = $2 / $1 }}
    END {{
      sort(stock); sort(tuned); sort(ratio)
      middle = (NR + 1) / 2
      printf "%-10s  stock %8.2f tokens/s, this bundle %8.2f: %.2f times as fast (%.2f to %.2f over %d pairs), by %s\n",
        name, stock[middle], tuned[middle], ratio[middle], ratio[1], ratio[NR], NR, backends
    }}'
}}
compare prompt
compare generation
)sh",
                     quoted(model_name), exports_of(options), words(true), words(false),
                     options.kernels == "haqa" ? "HAQA" : "");
}

Bundle write_bundle(const fs::path& folder, const Setup& setup, int context, const HardwareProfile& profile) {
  make_folder(folder);
  const std::string name = setup.model.filename().string();
  Bundle bundle;
  bundle.folder = folder;
  bundle.model = folder / name;
  link_or_copy(setup.model, bundle.model);
  bundle.bytes = fs::file_size(bundle.model);
  bundle.command = fmt::format("{}llama-server --model {} {}", environment_words(setup.options), quoted(name),
                               arguments(setup.options, context));
  const fs::path module = folder / fs::path(kModule).parent_path();
  if (setup.options.kernels == "haqa") {
    bundle.command += " --device HAQA";
    add_module(backend_module(), module);
    if (!setup.tuning.empty()) add_tuning(setup.tuning, module);
  }
  write_script(folder / "launch.sh", launch_script(name, setup.options, context));
  write_script(folder / "verify.sh", verify_script(name, setup.options));
  write_file(folder / "profile.json", to_json(profile).dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  return bundle;
}

}  // namespace haqa
