#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/space/search_space.h"

namespace haqa {

/// A variant of a kernel's source, ready to be compiled for this machine.
struct SourceVariant {
  std::string source;                ///< C++ text that includes kernels/kernel.h
  Configuration parameters;          ///< become macros; "threads" and "compiler" do not
  std::vector<std::string> defines;  ///< further macros, "NAME=value"
  std::vector<std::string> options;  ///< further options of the compiler
};

/// A variant that can be loaded.
struct Compiled {
  std::filesystem::path library;  ///< in the cache folder
  double seconds = 0;             ///< that compiling took, or finding it
  bool cached = false;            ///< it was there already
};

/// Compilers of C++ that are installed: "g++", "clang++", those of the two that can be found; $CXX first where it is
/// set.
std::vector<std::string> installed_compilers();

/// "NAME=value" for what is defined and for the parameters.
std::vector<std::string> macros_of(const SourceVariant& variant);

/// What of a library would run before anybody calls it: constructors, or code that chooses a function's version;
/// nullopt where nothing does. Throws Error where it is no ELF file of this machine. Source: System V ABI, gABI 4.1,
/// chapter 5.
std::optional<std::string> runs_when_loaded(const std::filesystem::path& library);

/// The names of the functions that a library offers. Throws Error where it is no ELF file of this machine.
std::vector<std::string> functions_of(const std::filesystem::path& library);

/// Compiles into the cache folder, or finds it there: by the text of the source and of kernel.h, the options, the
/// compiler's version and the processor. The compiler sees no files but the system's and its own. Throws KernelFault
/// (refused_source, does_not_compile, with the compiler's messages; timed_out), UsageError where there is no compiler.
/// again: even where the cache has it.
Compiled compile(const SourceVariant& variant, bool again = false);

/// What a cached library passed, by a line each, so that it can be looked at more quickly again: notes of the judge's.
/// Lost ones cost time alone, and none is written where that fails.
bool has_passed(const std::filesystem::path& library, const std::string& what);
void note_passed(const std::filesystem::path& library, const std::string& what);
/// All of it: it was found wrong.
void forget_passed(const std::filesystem::path& library);

/// Of a folder that holds more than so many libraries, removes all but the newer half of as many, with their notes.
/// Files that others remove meanwhile are no error.
void keep_newest(const std::filesystem::path& folder, size_t most);

/// A kernel's default variant as it was built with HAQA for this processor's instruction set, "softmax" for "F32";
/// nullopt where there is none.
std::optional<std::filesystem::path> prebuilt_variant(const std::string& kernel, std::string_view type);

/// `haqa-kernel --confined FOLDER PROGRAM...`: the program, which can write to that folder alone.
int run_confined(int argc, char** argv);

}  // namespace haqa
