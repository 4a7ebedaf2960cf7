#include "haqa/deploy/bundle.h"

#include <fmt/format.h>
#include <unistd.h>

#include <map>

#include "haqa/base/error.h"
#include "haqa/base/file.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

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
  for (const auto& [name, value] : runtime_environment(options)) all[name] = value;
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

/// One slot and no cache of old prompts, which alone may take 8 GiB: what was planned and measured.
std::string arguments(const RuntimeOptions& options, int context) {
  std::string words = fmt::format("--ctx-size {} --parallel 1 --cache-ram 0", context);
  for (const std::string& argument : server_arguments(options)) words += " " + quoted(argument);
  return words;
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
  std::string exports;
  for (const auto& [name, value] : measured_environment(options))
    exports += fmt::format("export {}={}\n", name, quoted(value));
  return fmt::format(R"sh(#!/bin/sh
# Serves the model with the options that HAQA found best (llama.cpp's own where none is named): http://127.0.0.1:8080. Further arguments are passed on.
# Needs llama.cpp's llama-server in PATH, or LLAMA_SERVER=/path/to/llama-server.
here=$(dirname -- "$(readlink -f -- "$0")")
{}exec "${{LLAMA_SERVER:-llama-server}}" --model "$here"/{} {} "$@"
)sh",
                     exports, quoted(model_name), arguments(options, context));
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
  write_file(folder / "launch.sh", launch_script(name, setup.options, context));
  fs::permissions(folder / "launch.sh", fs::perms::owner_exec | fs::perms::group_exec | fs::perms::others_exec,
                  fs::perm_options::add);
  write_file(folder / "profile.json", to_json(profile).dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  return bundle;
}

}  // namespace haqa
