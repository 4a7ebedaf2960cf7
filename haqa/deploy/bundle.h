#pragma once
#include <filesystem>
#include <string>

#include "haqa/deploy/benchmark.h"
#include "haqa/hardware/profile.h"

namespace haqa {

/// What the user takes away: a folder that can be moved, with the GGUF, launch.sh and profile.json.
struct Bundle {
  std::filesystem::path folder, model;
  uint64_t bytes = 0;   ///< of the GGUF
  std::string command;  ///< the exact llama-server command, relative to the folder
};

/// Puts a file into a bundle under a name: a hard link where the file system allows it, else a copy; whole or not at
/// all. Throws Error (no space).
void link_or_copy(const std::filesystem::path& from, const std::filesystem::path& to);

/// Writes the bundle. The GGUF is hard-linked where the file system allows it, else copied. Throws Error (no space).
Bundle write_bundle(const std::filesystem::path& folder, const Setup& setup, int context,
                    const HardwareProfile& profile);

/// The text of launch.sh: the environment, then llama-server with the model beside the script; further arguments of the
/// user come last and win. $LLAMA_SERVER names another program.
std::string launch_script(const std::string& model_name, const RuntimeOptions& options, int context);

/// The text of verify.sh: what the bundle gains over stock llama.cpp, measured in turn by llama-bench on the machine
/// that it runs on.
std::string verify_script(const std::string& model_name, const RuntimeOptions& options);

}  // namespace haqa
